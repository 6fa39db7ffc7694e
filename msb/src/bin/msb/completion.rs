//! `completion SHELL`

use std::{io, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;

/// Print what makes a shell complete these commands: `msb completion bash > /etc/bash_completion.d/msb`.
#[derive(Debug, Args)]
pub struct Completion {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        clap_complete::generate(self.shell, &mut Cli::command(), "msb", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
