//! The hidden verb `victim`: the process that the host's kernel is given to kill ([`msb_runtime::sandbox::oom`]).

use std::process::ExitCode;

use clap::Args;
use msb_runtime::sandbox::oom;

/// For this program's own use.
#[derive(Debug, Args)]
pub struct Victim {}

impl Victim {
    /// Comes back only where the kernel had no reason to kill it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        oom::fall();
        Ok(ExitCode::SUCCESS)
    }
}
