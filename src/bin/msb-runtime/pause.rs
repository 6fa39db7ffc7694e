//! `pause ID`: the container stands still, and all that it wrote is in its root on the host.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    state::Id,
    verbs::{Context, pause},
};

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
        pause::pause(&context.store.lock(&id)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
