//! `volume create|ls|rm`: directories of ours with names.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::Subcommand;
use msb::{name::Name, sandbox::Where};

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
        let home = scope.sandboxes.home();
        match self {
            Self::Create { names } => format::each(&names, |name| {
                let mut builder = fs::DirBuilder::new();
                Ok(builder.recursive(true).mode(0o755).create(home.volume(name))?)
            }),
            Self::Ls { format } => list(&home.volumes(), format),
            Self::Rm { names } => format::each(&names, |name| {
                let users = users(scope, name)?;
                if !users.is_empty() {
                    anyhow::bail!("The volume {name} is used by {}: remove those first", users.join(", "));
                }
                fs::remove_dir_all(home.volume(name))
                    .with_context(|| format!("The volume {name} can't be removed"))
            }),
        }
    }
}

/// The sandboxes that name it.
fn users(scope: &Scope, volume: &Name) -> anyhow::Result<Vec<String>> {
    let names = |all: &[msb::sandbox::Volume]| {
        all.iter().any(|one| matches!(&one.source, Where::Named(name) if name == volume))
    };
    let all = scope.sandboxes.list(None)?;
    Ok(all.into_iter().filter(|info| names(&info.request.volumes)).map(|info| info.key.to_string()).collect())
}

fn list(volumes: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let mut names = Vec::new();
    match fs::read_dir(volumes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.context("The volumes can't be read")? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    match format {
        Format::Json => format::json(&names)?,
        Format::Table => {
            format::table(&["NAME"], &names.into_iter().map(|name| vec![name]).collect::<Vec<_>>())?
        }
    }
    Ok(ExitCode::SUCCESS)
}
