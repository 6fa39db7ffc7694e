//! What the host must lend the sandbox, as plain data.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// The network namespace of the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// The caller's own (no `network` entry in `linux.namespaces`).
    Host,
    /// A fresh, empty one.
    New,
    /// One that exists, by its path.
    Existing(PathBuf),
}

/// One entry of `hooks.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its arguments, the first being its name; may be empty.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// How long it may take; no limit without.
    pub timeout: Option<Duration>,
}
