//! `kill SANDBOX…`

use std::process::ExitCode;

use clap::Args;
use msb::sandbox::signal;

use crate::Scope;

/// Send a signal to the first process of sandboxes.
#[derive(Debug, Args)]
pub struct Kill {
    /// Its name or number.
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL", value_parser = parse)]
    signal: i32,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

fn parse(text: &str) -> Result<i32, String> {
    signal::parse(text).ok_or_else(|| "there is no such signal".into())
}

impl Kill {
    /// Sends it, and prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        super::format::each(&self.sandboxes, |name| {
            Ok(scope.sandboxes.kill(&scope.key(name)?, self.signal)?)
        })
    }
}
