//! `pause ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    sandbox::control::Control,
    state::{Id, Stage, StateError, Status},
};

use crate::context::Context;

/// Stop every process of a container where it is.
#[derive(Debug, Args)]
pub struct Pause {
    /// Which container.
    id: String,
}

impl Pause {
    /// Pauses it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.lock(&id)?;
        let mut record = entry.record()?;
        if record.status() != Status::Running {
            return Err(StateError::NotRunning.into());
        }
        Control::of(entry.directory()).freeze()?;
        record.stage = Stage::Paused;
        entry.set_record(&record)?;
        Ok(ExitCode::SUCCESS)
    }
}
