//! Walls around the calling process, for one that is about to run what nobody trusts.
//!
//! ```text
//!  Walls::close   every descriptor but those that are named goes; stdio is /dev/null
//!  Walls::enter   an empty root in a mount namespace of its own, own ipc and uts, a user and group of its own without a
//!                 capability, no way to new privileges, limits (files no longer
//!                 than they are); the end of its parent is its own
//! ```
//!
//! Its pid namespace is its parent's business ([`apart`]): a process is born into one. The network namespace stays: without
//! a capability, and without `socket(2)` (`machine::seccomp`), nothing of it can be touched, and an empty one of its own
//! would cost each start some milliseconds.
//!
//! Enters: descriptors to keep, a number to make the user of. Leaves: a process that has what it holds, and nothing else.
//! It must never know what the process does.

mod descriptors;
mod identity;
mod pids;
mod root;

use std::{io, os::fd::BorrowedFd};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
    signal::Signal,
};

pub use identity::{BASE, LAST};
pub use pids::apart;

/// Why a process is not within its walls.
#[derive(Debug, thiserror::Error)]
#[error("The VMM can't be confined ({step})")]
pub struct WallError {
    /// What failed.
    pub step: &'static str,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// For `map_err`: which step it was.
fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> WallError {
    move |source| WallError { step, source: source.into() }
}

/// Threads that the process may have: more than the most processors need.
const THREADS: u64 = 256;

/// Closes every descriptor but `kept`, which are above stderr. Stdin and stdout are `/dev/null` then, and so is stderr.
///
/// # Errors
/// [`WallError`].
pub fn close_all_but(kept: &[BorrowedFd]) -> Result<(), WallError> {
    descriptors::close_all_but(kept).map_err(at("close descriptors"))
}

/// Puts the calling process, which has one thread, between walls; `number` is one that no other process has at this time, such
/// as a pid. No file that it writes to gets longer than `room`, in bytes. Nothing leads back.
///
/// # Errors
/// [`WallError`]; then it must end.
pub fn enter(number: u32, room: u64) -> Result<(), WallError> {
    root::enter_empty().map_err(at("enter an empty root"))?;
    let limits =
        [(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_NPROC, THREADS), (Resource::RLIMIT_FSIZE, room)];
    for (limit, most) in limits {
        setrlimit(limit, most, most).map_err(at("limit resources"))?;
    }
    identity::become_nobody(number).map_err(at("give up its user"))?;
    // After the change of user, which takes it back.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("end with its parent"))?;
    prctl::set_dumpable(false).map_err(at("forbid others to look into it"))?;
    prctl::set_no_new_privs().map_err(at("give up new privileges"))?;
    Ok(())
}

/// What the kernel says of a process within walls, for people and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its user.
    pub uid: u32,
    /// Whether it has no capability in any set.
    pub powerless: bool,
    /// Whether it can't get new privileges.
    pub no_new_privs: bool,
    /// Whether a seccomp filter holds.
    pub filtered: bool,
    /// How many mounts it sees.
    pub mounts: usize,
}

impl Seen {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or_default()
        };
        let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
        Ok(Self {
            uid: field("Uid:").parse().map_err(|_| io::ErrorKind::InvalidData)?,
            powerless: sets.iter().all(|set| u64::from_str_radix(field(set), 16) == Ok(0)),
            no_new_privs: field("NoNewPrivs:") == "1",
            filtered: field("Seccomp:") == "2",
            mounts: mounts.lines().count(),
        })
    }
}

#[cfg(test)]
mod tests;
