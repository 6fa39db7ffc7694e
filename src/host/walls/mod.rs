//! Walls around the calling process, for one that is about to run what nobody trusts.
//!
//! ```text
//!  Walls::close   every descriptor but those that are named goes; stdio is /dev/null
//!  Walls::enter   an empty root in a mount namespace of its own, own ipc and uts, a user and group of its own without a
//!                 capability, no way to new privileges, limits (descriptors, threads, no file
//!                 longer than it is, no core); the end of its parent is its own
//! ```
//!
//! Its pid namespace is its parent's business ([`apart`]): a process is born into one. The network namespace stays: without
//! a capability, and without `socket(2)` (`machine::seccomp`), nothing of it can be touched, and an empty one of its own
//! would cost each start some milliseconds.
//!
//! Enters: descriptors to keep. Leaves: a process that has what it holds, and nothing else.
//! It must never know what the process does.

mod descriptors;
mod identity;
mod pids;
mod root;
mod seen;

use std::{io, os::fd::BorrowedFd};

use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};

pub use identity::{BASE, LAST};
pub use pids::apart;
pub use seen::{NAMESPACES, Seen};

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
pub const THREADS: u64 = 256;
/// Descriptors that it may have open, where its parent may have so many: 1024 streams of the guest, and 128 files of layers for
/// each of the composed disks of a pod.
pub const DESCRIPTORS: u64 = 8192;

/// Closes every descriptor but `kept`, which are above stderr. Stdin and stdout are `/dev/null` then, and so is stderr.
///
/// # Errors
/// [`WallError`].
pub fn close_all_but(kept: &[BorrowedFd]) -> Result<(), WallError> {
    descriptors::close_all_but(kept).map_err(at("close descriptors"))
}

/// Puts the calling process between walls. It has one thread and is alone in its pid namespace ([`apart`]), which gives it its
/// user. No file that it writes to gets longer than `room`, in bytes. Nothing leads back.
///
/// # Errors
/// [`WallError`]; then it must end.
pub fn enter(room: u64) -> Result<(), WallError> {
    let user = identity::of_namespace().map_err(at("find a user for it"))?;
    root::enter_empty().map_err(at("enter an empty root"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(at("read its limits"))?;
    let limits = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, THREADS),
        (Resource::RLIMIT_FSIZE, room),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS.min(most)),
    ];
    for (limit, most) in limits {
        setrlimit(limit, most, most).map_err(at("limit resources"))?;
    }
    identity::become_nobody(user).map_err(at("give up its user"))?;
    // After the change of user, which takes it back.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("end with its parent"))?;
    prctl::set_dumpable(false).map_err(at("forbid others to look into it"))?;
    prctl::set_no_new_privs().map_err(at("give up new privileges"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
