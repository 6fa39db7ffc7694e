//! `hooks.startContainer`: programs of the container's that run before its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Run one after the other in the container, as its first process would, just before that calls `execve`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartHooks {
    /// In their order.
    pub hooks: Vec<StartHook>,
    /// The container's state as each reads it on its stdin: the JSON before the pid, and after it. The pid is known only
    /// in the container, and is what the container calls it.
    pub state: [String; 2],
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartHook {
    /// Absolute, in the container.
    pub path: String,
    /// Its arguments, the first being its name; may be empty.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// How long it may take; no limit without.
    pub timeout: Option<Duration>,
}
