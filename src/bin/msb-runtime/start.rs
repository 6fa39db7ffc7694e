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
        start(&entry, record, context)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts the container of a locked entry.
pub fn start(entry: &Entry, mut record: Record, context: &Context) -> anyhow::Result<()> {
    let status = record.status();
    if status != Status::Created {
        return Err(StateError::NotCreated { status }.into());
    }
    let lent = Lent::load(entry)?;
    let hooks = lent.as_ref().is_some_and(|lent| lent.start_hooks);
    Control::of(entry.directory()).start(hooks)?;
    record.stage = Stage::Running;
    entry.set_record(&record)?;
    if let Some(lent) = lent {
        let state = show::for_hooks(&record, Status::Running);
        // It runs: what they make of it can't undo that.
        context.report.warnings(hooks::run_all(&lent.hooks.poststart, &state, &record.bundle));
    }
    Ok(())
}
