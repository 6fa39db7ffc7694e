//! What is known of a sandbox.

use std::time::{Duration, SystemTime};

use msb_runtime::sandbox::child::Moments;
use serde::{Deserialize, Serialize};

use super::{Exit, Key, Request};

/// A sandbox as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Which one.
    pub key: Key,
    /// What it was asked to be. Its ports are those that it has.
    pub request: Request,
    /// What it does.
    pub state: State,
    /// When it was made.
    pub created: SystemTime,
    /// When it was started the last time.
    pub started: Option<SystemTime>,
    /// For how long it runs, whoever has set the clock meanwhile; none: it does not, or that is not known here.
    pub up: Option<Duration>,
    /// When it ended the last time.
    pub ended: Option<SystemTime>,
    /// How long its machine took when it was started the last time.
    pub boot: Option<Boot>,
}

/// How long a machine took until commands can be begun in it, from its first instruction on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The kernel, up to the agent's first word.
    pub kernel: Duration,
    /// And from there the agent, up to but without the first process's program.
    pub agent: Duration,
}

impl Boot {
    pub(super) fn of(moments: &Moments) -> Self {
        let between = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        Self {
            kernel: between(moments.guest_entered_ns, moments.agent_hello_ns),
            agent: between(moments.agent_hello_ns, moments.container_created_ns),
        }
    }
}

/// What a sandbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing yet: it was never started.
    Created,
    /// It runs.
    Running,
    /// It ran; how its first process ended, where somebody saw it.
    Stopped(Option<Exit>),
}

impl Info {
    /// Whether it runs.
    #[must_use]
    pub fn running(&self) -> bool {
        self.state == State::Running
    }
}

/// What a sandbox uses at this moment. What is not known of one that does not run is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Of one processor, in percent: 150 is one and a half.
    pub cpu: Option<f64>,
    /// Bytes of the host's memory.
    pub memory: Option<u64>,
    /// Bytes of its writable layer on the host's disk.
    pub disk: Option<u64>,
}
