//! The hidden verb `member`: the process that is a pod's further container towards its caller.

use std::process::ExitCode;

use clap::Args;
use msb_runtime::sandbox::member;

use crate::report::Report;

/// For this program's own use.
#[derive(Debug, Args)]
pub struct Member {
    /// The socket to the parent.
    fd: i32,
}

impl Member {
    /// Ends with the container's exit code.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::from(member::run(self.fd, &Report::warn)?))
    }
}
