//! `pause ID`: the container stands still, and all that it wrote is in its root on the host.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{
    image::Moment,
    sandbox::control::Control,
    state::{Id, Stage, StateError, Status},
};

use crate::{context::Context, lent::Lent};

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
        let control = Control::of(entry.directory());
        control.freeze()?;
        // Who pauses in order to look at the root (as a commit does) must see what was written.
        let brought = Lent::load(&entry)?.map_or(Ok(()), |lent| lent.bring_back(Moment::Paused));
        if let Err(error) = brought {
            // It must not stay frozen as one that runs. The first error is the one to tell.
            let _ = control.thaw();
            return Err(error.into());
        }
        record.stage = Stage::Paused;
        entry.set_record(&record)?;
        Ok(ExitCode::SUCCESS)
    }
}
