//! A pid namespace for the next child alone.

use std::{fs::File, io};

use nix::sched::{CloneFlags, setns, unshare};

/// Calls `fork`, whose child is the first process of a pid namespace: it sees no other process, and none that it could leave
/// behind outlives it. The caller's later children are born where it is itself.
///
/// # Errors
/// The kernel's, or those of `fork`.
pub fn apart<T>(fork: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let forked = fork();
    setns(own, CloneFlags::CLONE_NEWPID)?;
    forked
}
