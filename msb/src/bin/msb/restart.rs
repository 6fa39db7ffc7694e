//! `restart SANDBOX…` and `rename`

use std::{process::ExitCode, time::Duration};

use clap::Args;
use msb::name::Name;

use crate::{Scope, format};

/// End sandboxes, if they run, and start them.
#[derive(Debug, Args)]
pub struct Restart {
    /// Seconds that each has to end by itself.
    #[arg(short, long, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

/// Give a sandbox that does not run another name.
#[derive(Debug, Args)]
pub struct Rename {
    /// Which one.
    sandbox: String,
    /// Its new name.
    name: Name,
}

impl Restart {
    /// Does it, and prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let grace = Duration::from_secs(self.time);
        format::each(&self.sandboxes, |name| {
            let key = scope.key(name)?;
            scope.sandboxes.stop(&key, grace)?;
            Ok(scope.start(&key)?)
        })
    }
}

impl Rename {
    /// Does it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        scope.sandboxes.rename(&scope.key(&self.sandbox)?, self.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
