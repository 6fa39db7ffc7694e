//! `run ID`: create, start, wait, delete.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::verbs::{Context, create::Created, delete, start};

use crate::{
    foreground,
    launch::{self, Options},
};

/// Create a container, start it, and remove it when it ends.
#[derive(Debug, Args)]
pub struct Run {
    /// Leave it running and return.
    #[arg(short, long)]
    detach: bool,
    /// Keep it when it has ended.
    #[arg(long)]
    keep: bool,
    /// Accepted: this command adopts nothing.
    #[arg(long)]
    no_subreaper: bool,
    #[command(flatten)]
    options: Options,
}

impl Run {
    /// Runs it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (Created { entry, record, process, .. }, master) =
            launch::launch(&self.options, self.detach, context)?;
        if let Err(error) = start::start(&entry, record.clone(), context) {
            // It was made for this start only. The start's error is the one to tell.
            let _ = delete::by_force(entry, &record, context);
            return Err(error.into());
        }
        if self.detach {
            return Ok(ExitCode::SUCCESS);
        }
        let id = entry.id().clone();
        // Other verbs may change it while it runs.
        drop(entry);
        let code = foreground::stay(process, master)?;
        if !self.keep {
            delete::after_end(&id, context)?;
        }
        Ok(code)
    }
}
