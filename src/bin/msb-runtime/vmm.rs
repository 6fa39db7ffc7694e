//! The hidden verb `vmm`: the process that is the container towards its caller.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::sandbox::vmm;

use crate::report::Report;

/// For this program's own use.
#[derive(Debug, Args)]
pub struct Vmm {
    /// The socket to the parent.
    fd: i32,
}

impl Vmm {
    /// Ends with the container's exit code.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::from(vmm::run(self.fd, &Report::warn)?))
    }
}
