//! How a server is to be.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::auth::Access;
use crate::sandbox::Pull;

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where it listens; port 0: a free one.
    pub address: SocketAddr,
    /// Who is let in.
    pub access: Access,
    /// What it does not go beyond.
    pub limits: Limits,
    /// When the image of a sandbox is asked for from its registry whose caller wants it `if-missing`, as all do who say nothing.
    pub pull: Pull,
    /// Whether the sandboxes of all namespaces are stopped when the server is.
    pub stop_sandboxes: bool,
    /// Where the log of a server in the background is. If stderr is that file, it is put aside when it is long: see [`super::log`].
    pub log: Option<PathBuf>,
}

/// What a server does not go beyond, whoever asks.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body: 413 beyond.
    pub body: usize,
    /// Connections at once; the next one waits to be accepted.
    pub connections: usize,
    /// Requests at once: 503 beyond.
    pub requests: usize,
    /// Terminals, streams to agents, and logs that are followed, at once: 503 beyond. They last, so that they are no requests.
    pub sessions: usize,
    /// For a request to come in, its head and its body each; and for a client to take something of its answer.
    pub slow: Duration,
    /// Sandboxes that run at once, of all namespaces.
    pub sandboxes: usize,
    /// Bytes of memory of those, together; none: no matter how much.
    pub memory: Option<u64>,
    /// Bytes of what one command or one run of code writes: what is more is dropped, and that is said.
    pub output: usize,
    /// For a sandbox to be started, its image pulled included.
    pub start: Duration,
    /// For a command or a run of code that has no shorter limit of its own.
    pub run: Duration,
    /// For requests that run when the server is to end.
    pub finish: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 8 << 20,
            connections: 1024,
            requests: 256,
            sessions: 256,
            slow: Duration::from_secs(30),
            sandboxes: 100,
            memory: None,
            output: 4 << 20,
            start: Duration::from_secs(180),
            run: Duration::from_secs(3600),
            finish: Duration::from_secs(10),
        }
    }
}
