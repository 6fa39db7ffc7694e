//! `start ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    host::hooks,
    sandbox::control::Control,
    state::{Entry, Id, Record, Stage, StateError, Status},
};

use crate::{context::Context, lent::Lent, show};

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
        start(&entry, record)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts the container of a locked entry.
pub fn start(entry: &Entry, mut record: Record) -> anyhow::Result<()> {
    let status = record.status();
    if status != Status::Created {
        return Err(StateError::NotCreated { status }.into());
    }
    Control::of(entry.directory()).start()?;
    record.stage = Stage::Running;
    entry.set_record(&record)?;
    if let Some(lent) = Lent::load(entry)? {
        let state = show::for_hooks(&record, Status::Running);
        hooks::run(&lent.hooks.poststart, &state, &record.bundle)?;
    }
    Ok(())
}
