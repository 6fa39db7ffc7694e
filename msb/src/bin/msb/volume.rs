//! `volume create|ls|rm`: directories of ours with names.

use std::process::ExitCode;

use clap::Subcommand;
use msb::name::Name;

use crate::{
    Scope,
    format::{self, Format},
};

/// Volumes that have names.
#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Make some.
    Create {
        /// Their names.
        #[arg(required = true)]
        names: Vec<Name>,
    },
    /// List all.
    #[command(visible_alias = "list")]
    Ls {
        /// How.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Remove some, with all that is in them.
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names.
        #[arg(required = true)]
        names: Vec<Name>,
    },
}

impl Volume {
    /// Does it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create { names } => format::each(&names, |name| {
                match scope.sandboxes.create_volume(name.clone()) {
                    // As with Docker.
                    Err(msb::sandbox::Failure::VolumeExists(_)) => Ok(()),
                    made => Ok(made.map(drop)?),
                }
            }),
            Self::Ls { format } => list(scope, format),
            Self::Rm { names } => {
                format::each(&names, |name| Ok(scope.sandboxes.remove_volume(name.clone())?))
            }
        }
    }
}

fn list(scope: &Scope, format: Format) -> anyhow::Result<ExitCode> {
    let names: Vec<String> =
        scope.sandboxes.volumes()?.into_iter().map(|volume| volume.name.to_string()).collect();
    match format {
        Format::Json => format::json(&names)?,
        Format::Table => {
            format::table(&["NAME"], &names.into_iter().map(|name| vec![name]).collect::<Vec<_>>())?
        }
    }
    Ok(ExitCode::SUCCESS)
}
