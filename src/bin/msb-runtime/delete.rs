//! `delete ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::verbs::{Context, delete};

/// Remove a container.
#[derive(Debug, Args)]
pub struct Delete {
    /// Also if it runs, or was never complete, or does not exist.
    #[arg(short, long)]
    force: bool,
    /// Which container.
    id: String,
}

impl Delete {
    /// Removes it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        delete::delete(&self.id.parse()?, self.force, context)?;
        Ok(ExitCode::SUCCESS)
    }
}
