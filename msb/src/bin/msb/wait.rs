//! `wait SANDBOX…`

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::{Scope, format};

/// Wait until sandboxes have ended, and print the exit code of each.
#[derive(Debug, Args)]
pub struct Wait {
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Wait {
    /// Prints one line for each, as it was given.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        format::tell_each(&self.sandboxes, |name| {
            let code = scope.sandboxes.wait(&scope.key(name)?)?;
            Ok(code.with_context(|| format!("{name} has ended, and nobody saw how"))?.to_string())
        })
    }
}
