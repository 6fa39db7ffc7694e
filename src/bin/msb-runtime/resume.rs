//! `resume ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    sandbox::control::Control,
    state::{Id, Stage, StateError, Status},
};

use crate::context::Context;

/// Let the processes of a paused container go on.
#[derive(Debug, Args)]
pub struct Resume {
    /// Which container.
    id: String,
}

impl Resume {
    /// Resumes it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.lock(&id)?;
        let mut record = entry.record()?;
        if record.status() != Status::Paused {
            return Err(StateError::NotPaused.into());
        }
        Control::of(entry.directory()).thaw()?;
        record.stage = Stage::Running;
        entry.set_record(&record)?;
        Ok(ExitCode::SUCCESS)
    }
}
