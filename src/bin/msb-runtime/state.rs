//! `state ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::{state::Id, verbs::Context};

use crate::show;

/// Print a container's state as JSON.
#[derive(Debug, Args)]
pub struct State {
    /// Which container.
    id: String,
}

impl State {
    /// Prints it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let record = context.store.look(&id)?.record()?;
        let mut state = show::state(&record);
        // runc names the owner in its `list` only.
        state["owner"] = "".into();
        println!("{}", show::pretty(&state));
        Ok(ExitCode::SUCCESS)
    }
}
