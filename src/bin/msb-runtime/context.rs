//! What the global flags mean.

use msb_runtime::state::Store;

use crate::{args::Cli, report::Report};

/// Given to each verb that deals with containers.
#[derive(Debug)]
pub struct Context {
    /// All containers of this `--root`.
    pub store: Store,
    /// `--systemd-cgroup`
    pub systemd_cgroup: bool,
    /// Where errors, and with `--debug` more, are told.
    pub report: Report,
}

impl Context {
    /// From what was typed.
    pub fn new(cli: &Cli) -> Self {
        // Absolute, as paths beneath it are given to processes that run elsewhere.
        let root = std::path::absolute(&cli.root).unwrap_or_else(|_| cli.root.clone());
        Self { store: Store::new(root), systemd_cgroup: cli.systemd_cgroup, report: Report::of(cli) }
    }
}
