//! `start SANDBOX…`

use std::process::ExitCode;

use clap::Args;

use crate::Scope;

/// Start sandboxes that were made or have ended.
#[derive(Debug, Args)]
pub struct Start {
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Start {
    /// Starts them, and prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        super::format::each(&self.sandboxes, |name| Ok(scope.start(&scope.key(name)?)?))
    }
}
