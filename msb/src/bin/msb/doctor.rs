//! `doctor`

use std::{fs, process::ExitCode};

use clap::Args;
use msb::{home::Home, network};
use msb_runtime::{
    plain,
    verbs::{
        doctor::{Finding, findings},
        words,
    },
};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::json;

use crate::format::{self, Format};

/// Check whether this machine can run sandboxes, and say what to do if not.
#[derive(Debug, Args)]
pub struct Doctor {
    /// How.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Doctor {
    /// Prints one line for each thing that is needed; fails if one of them is bad.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut all = findings();
        all.push(("home", home()));
        all.push(("passt", network::probe().map_err(|error| words::chain(&error))));
        let bad = all.iter().any(|(_, finding)| finding.is_err());
        if self.format == Format::Json {
            let told = |(name, finding): &(&str, Finding)| match finding {
                Ok(text) => json!({ "name": name, "ok": true, "text": text }),
                Err(text) => json!({ "name": name, "ok": false, "text": text }),
            };
            format::json(&all.iter().map(told).collect::<Vec<_>>())?;
        } else {
            for (name, finding) in all {
                match finding {
                    Ok(found) => println!("ok    {name}: {}", plain::lines(&found)),
                    Err(advice) => println!("FAIL  {name}: {}", plain::lines(&advice)),
                }
            }
        }
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Layers and what is written need a file system that overlayfs can lie upon.
fn home() -> Finding {
    let home = Home::of_environment().map_err(|error| words::chain(&error))?;
    for part in [home.images(), home.namespaces()] {
        fs::create_dir_all(&part).map_err(|error| format!("{} can't be made: {error}", part.display()))?;
        if statfs(&part).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC) {
            return Err(format!(
                "{} is on an overlay, as in a container without a volume: mount a volume there",
                part.display()
            ));
        }
    }
    Ok(home.path().display().to_string())
}
