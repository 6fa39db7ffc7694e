//! `checkpoint` and `restore`: not there, and said so whatever flags they are given.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

/// Not supported.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Checkpoint {
    /// runc's flags and the container's id.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

impl Checkpoint {
    /// Refuses.
    pub fn run(self, verb: &str) -> anyhow::Result<ExitCode> {
        bail!(
            "{verb} is not supported: what runs is a machine with a kernel of its own, which CRIU can't see into. \
             Use pause and resume, or stop the container"
        )
    }
}
