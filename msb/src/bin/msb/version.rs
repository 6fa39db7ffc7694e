//! `version`

use std::process::ExitCode;

use clap::Args;

use crate::format::{self, Format};

/// Print the version.
#[derive(Debug, Args)]
pub struct Version {
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Version {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let version = env!("CARGO_PKG_VERSION");
        match self.format {
            Format::Table => println!("msb {version}"),
            Format::Json => format::json(&serde_json::json!({ "version": version }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
