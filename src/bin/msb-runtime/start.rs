//! `start ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    state::Id,
    verbs::{Context, start},
};

/// Let a created container's process go.
#[derive(Debug, Args)]
pub struct Start {
    /// Which container.
    id: String,
}

impl Start {
    /// Starts it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.lock(&id)?;
        let record = entry.record()?;
        start::start(&entry, record, context)?;
        Ok(ExitCode::SUCCESS)
    }
}
