//! `cargo dev host`: the virtual KVM host by hand.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Project;
use crate::host::{Fixture, Item, VirtualHost};

/// What `host run` is told.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// A file to put into the host, as SOURCE:TARGET; it keeps its permissions
    #[arg(long = "file", value_name = "SRC:DST")]
    files: Vec<String>,
    /// Leave out the current build
    #[arg(long)]
    bare: bool,
    /// Count instructions as nanoseconds, as benchmarks do
    #[arg(long)]
    icount: bool,
    /// Keep the host's logs, whatever happens
    #[arg(long)]
    keep: bool,
    /// Given to `sh -c`
    command: String,
}

/// Runs the command in a clean host, with our standard streams, and gives its exit code.
pub fn run(project: &Project, arguments: &Run) -> Result<i32> {
    let mut payload = if arguments.bare { Vec::new() } else { project.shipped()? };
    for file in &arguments.files {
        payload.push(item(file)?);
    }
    let fixture = if arguments.icount { Fixture::Icount } else { Fixture::Plain };
    let host = VirtualHost::start(fixture, &project.host(fixture)?, &payload)?;
    let command = host.sh(&arguments.command).stdin_from(io::stdin()).timeout(None);
    let code = command.stream(&mut io::stdout(), &mut io::stderr());
    if arguments.keep || code.is_err() {
        eprintln!("The host's logs are kept in {}", host.named("host-run").keep()?.display());
    }
    Ok(code?)
}

fn item(text: &str) -> Result<Item> {
    use std::os::unix::fs::PermissionsExt;
    let (source, target) = text.split_once(':').with_context(|| format!("{text:?} is not SOURCE:TARGET"))?;
    let source = PathBuf::from(source);
    let metadata = source.metadata().with_context(|| format!("Cannot read {}", source.display()))?;
    Ok(Item { mode: metadata.permissions().mode() & 0o7777, source, target: target.to_owned() })
}
