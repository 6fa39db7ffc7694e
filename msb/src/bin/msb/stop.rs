//! `stop SANDBOX…`

use std::{process::ExitCode, time::Duration};

use clap::Args;

use crate::Scope;

/// End sandboxes; what they wrote stays.
#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds that each has to end by itself.
    #[arg(short, long, default_value_t = 10, value_name = "SECONDS")]
    time: u64,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Stop {
    /// Ends them, and prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let grace = Duration::from_secs(self.time);
        super::format::each(&self.sandboxes, |name| Ok(scope.sandboxes.stop(&scope.key(name)?, grace)?))
    }
}
