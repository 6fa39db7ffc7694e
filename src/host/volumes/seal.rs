//! A volume that becomes read-only while it is served.
//!
//! The mounts that virtiofsd serves are in a namespace that it made for itself. A thread of this process joins that
//! namespace, whose root is the tree, for one call, and ends.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
};

use super::tree;
use crate::host::apart::apart;

/// How long a file that the agent has closed may still be open in the daemon: it is told of it later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a volume stays writable.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The daemon has no child, or the kernel does not tell of it.
    #[error(
        "The process that serves the volumes can't be found: does the host's kernel lack CONFIG_PROC_CHILDREN?"
    )]
    Served(#[source] io::Error),
    /// Its namespace.
    #[error("The mounts that are served can't be reached")]
    Namespace(#[source] Errno),
    /// The mount.
    #[error("The container's root can't be made read-only on the host")]
    Mount(#[source] Errno),
    /// The thread.
    #[error("The thread that makes the container's root read-only can't be run")]
    Thread(#[source] io::Error),
}

/// Makes entry `number` of the tree read-only that the daemon, process `pid` and a child of this one, serves.
///
/// # Errors
/// [`SealError`]
pub fn read_only(pid: u32, number: u32) -> Result<(), SealError> {
    let namespace = served(pid).map_err(SealError::Served)?;
    let seal = move || {
        // A thread that shares its root with others can't join a namespace of mounts.
        unshare(CloneFlags::CLONE_FS).map_err(SealError::Namespace)?;
        setns(&namespace, CloneFlags::CLONE_NEWNS).map_err(SealError::Namespace)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = open(&*format!("/{number}"), flags, Mode::empty()).map_err(SealError::Namespace)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tree::make_read_only(top.as_fd()) {
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                result => return result.map_err(SealError::Mount),
            }
        }
    };
    apart("seal", seal).map_err(SealError::Thread)?
}

/// The mount namespace of virtiofsd's one child, which is the one that serves (`--sandbox=namespace`).
pub(super) fn served(pid: u32) -> io::Result<File> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let child = children.split_ascii_whitespace().next().ok_or(io::ErrorKind::NotFound)?;
    File::open(format!("/proc/{child}/ns/mnt"))
}
