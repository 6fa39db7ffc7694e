//! `inspect SANDBOX…`

use std::process::ExitCode;

use clap::Args;
use msb::image::Images;
use serde_json::Value;

use crate::{Scope, format, ps};

/// Print all that is known of sandboxes, or of images where no sandbox has the name, as JSON.
#[derive(Debug, Args)]
pub struct Inspect {
    /// As without it: JSON.
    #[arg(long, value_parser = ["json"])]
    format: Option<String>,
    /// Which ones.
    #[arg(required = true)]
    sandboxes: Vec<String>,
}

impl Inspect {
    /// Prints an array.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let mut all = Vec::new();
        for name in &self.sandboxes {
            let told = match sandbox(scope, name) {
                Ok(told) => told,
                // A name may be an image's alone, and look like none of a sandbox.
                Err(error) => match Images::open(scope.sandboxes.home())?.inspect(name) {
                    Ok(image) => serde_json::to_value(image)?,
                    Err(_) => return Err(error),
                },
            };
            all.push(told);
        }
        format::json(&all)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn sandbox(scope: &Scope, name: &str) -> anyhow::Result<Value> {
    let key = scope.key(name)?;
    let (place, stored) = scope.sandboxes.find(&key)?;
    let (digest, layers, confinement) = (stored.digest.clone(), stored.layers.len(), stored.confinement);
    let boot = stored.boot.map(|boot| (boot.kernel + boot.agent).as_secs_f64());
    let mut told = ps::told(&scope.sandboxes.info_of(&place, stored)?);
    told["digest"] = digest.into();
    told["layers"] = layers.into();
    told["boot_seconds"] = boot.into();
    told["confinement"] = serde_json::to_value(confinement)?;
    Ok(told)
}
