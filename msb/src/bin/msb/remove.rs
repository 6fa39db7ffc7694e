//! `rm SANDBOX…`

use std::process::ExitCode;

use clap::Args;
use msb::sandbox::State;

use crate::Scope;

/// Remove sandboxes, and what they wrote.
#[derive(Debug, Args)]
pub struct Remove {
    /// Those that run as well.
    #[arg(short, long)]
    force: bool,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Remove {
    /// Removes them, and prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        super::format::each(&self.sandboxes, |name| {
            let key = scope.key(name)?;
            if !self.force && scope.sandboxes.info(&key)?.state == State::Running {
                anyhow::bail!("Sandbox {key} is running: stop it first, or give --force");
            }
            Ok(scope.sandboxes.remove(&key)?)
        })
    }
}
