//! The hidden verb `volumes`: becomes the process that serves a container's volumes.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::sandbox::volumes;

/// For this program's own use.
#[derive(Debug, Args)]
pub struct Volumes {
    /// The socket to the parent.
    fd: i32,
}

impl Volumes {
    /// Returns only when it can't.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        volumes::serve(self.fd)?;
        Ok(ExitCode::FAILURE)
    }
}
