//! `create ID`

use std::process::ExitCode;

use clap::Args;
use msb_runtime::verbs::Context;

use crate::launch::{self, Options};

/// Make a container whose process waits for `start`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    options: Options,
}

impl Create {
    /// Makes it. The VMM stays behind, for the caller's subreaper to adopt.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        launch::launch(&self.options, true, context)?;
        Ok(ExitCode::SUCCESS)
    }
}
