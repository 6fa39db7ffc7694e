//! `resume ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    state::Id,
    verbs::{Context, resume},
};

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
        resume::resume(&context.store.lock(&id)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
