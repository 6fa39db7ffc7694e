//! `inspect SANDBOX…`

use std::process::ExitCode;

use clap::Args;

use crate::{Scope, format, ps};

/// Print all that is known of sandboxes, as JSON.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Inspect {
    /// Prints an array.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let mut all = Vec::new();
        for name in &self.sandboxes {
            let key = scope.key(name)?;
            let (place, stored) = scope.sandboxes.find(&key)?;
            let (digest, layers) = (stored.digest.clone(), stored.layers.len());
            let mut told = ps::told(&scope.sandboxes.info_of(&place, stored)?);
            told["digest"] = digest.into();
            told["layers"] = layers.into();
            all.push(told);
        }
        format::json(&all)?;
        Ok(ExitCode::SUCCESS)
    }
}
