//! `config`: the host's settings in force, as the file that would give them.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{config::Settings, verbs::settings};

/// Print the host's settings that are in force, as TOML.
#[derive(Debug, Args)]
pub struct Config {
    /// Print the built-in ones instead, to begin a file with.
    #[arg(long)]
    default: bool,
}

impl Config {
    /// Prints them.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let settings = if self.default { Settings::default() } else { settings::load()? };
        print!("{}", settings.to_toml());
        Ok(ExitCode::SUCCESS)
    }
}
