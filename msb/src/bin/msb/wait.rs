//! `wait SANDBOX…`

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::{
    Scope,
    format::{self, Format},
};

/// Wait until sandboxes have ended, and print the exit code of each.
#[derive(Debug, Args)]
pub struct Wait {
    /// How; as JSON, when the last one has ended.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Wait {
    /// Prints one line for each, as it was given.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let ended = |name: &String| {
            let code = scope.sandboxes.wait(&scope.key(name)?)?;
            code.with_context(|| format!("{name} has ended, and nobody saw how"))
        };
        match self.format {
            Format::Table => format::tell_each(&self.sandboxes, |name| Ok(ended(name)?.to_string())),
            Format::Json => format::json_of_each(&self.sandboxes, |name| {
                Ok(json!({ "name": name, "exit_code": ended(name)? }))
            }),
        }
    }
}
