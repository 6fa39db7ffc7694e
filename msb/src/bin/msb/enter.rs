//! `enter`: what the image of the product does when it is given nothing to do.
//!
//! `docker compose up` gives a container no stdin: it serves. `docker compose run` gives it a terminal, or with `-T` a pipe: it
//! is a shell in a sandbox.

use std::{
    io::{self, IsTerminal},
    os::{fd::AsFd, linux::fs::MetadataExt},
    process::ExitCode,
};

use clap::Args;
use nix::sys::stat::makedev;

use crate::{Scope, run::Run, server::Start};

/// A shell in a sandbox where there is an input, otherwise the server.
#[derive(Debug, Args)]
pub struct Enter {}

impl Enter {
    /// Does the one or the other.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        if io::stdin().is_terminal() {
            Run::shell(true).run(scope)
        } else if is_null(io::stdin())? {
            Start::of_environment()?.run(scope)
        } else {
            Run::shell(false).run(scope)
        }
    }
}

/// Whether it is `/dev/null` (kernel, `admin-guide/devices.txt`: character device 1, 3).
fn is_null(descriptor: impl AsFd) -> io::Result<bool> {
    let file = std::fs::File::from(descriptor.as_fd().try_clone_to_owned()?);
    Ok(file.metadata()?.st_rdev() == makedev(1, 3))
}
