//! What of the guest the container has for itself.

use serde::{Deserialize, Serialize};

use super::ProcessId;

/// Kinds of namespaces (`linux.namespaces`) that the guest makes for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// `pid`
    Pid,
    /// `ipc`
    Ipc,
    /// `uts`
    Uts,
    /// `cgroup`
    Cgroup,
    /// `user`, with a [`UserMap`]
    User,
    /// `time`, with [`TimeOffset`]s
    Time,
}

/// A namespace of another container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its kind: `pid`, `ipc` or `uts`.
    pub namespace: Namespace,
    /// That container's first process.
    pub of: ProcessId,
}

/// Which ids of the container are which of the guest's first user namespace. Those are the host's in every file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMap {
    /// `linux.uidMappings`
    pub uids: Vec<IdRange>,
    /// `linux.gidMappings`
    pub gids: Vec<IdRange>,
}

/// A line of `/proc/PID/uid_map` (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id in the container.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// One entry of `linux.timeOffsets` (time_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Which clock.
    pub clock: Clock,
    /// Whole seconds.
    pub seconds: i64,
    /// And so many nanoseconds, less than a second.
    pub nanoseconds: u32,
}

/// A clock that can have an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`
    Monotonic,
    /// `CLOCK_BOOTTIME`
    Boottime,
}

/// `linux.personality` (personality(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Personality {
    /// `PER_LINUX`
    Linux,
    /// `PER_LINUX32`: `uname` names a 32-bit machine.
    Linux32,
}
