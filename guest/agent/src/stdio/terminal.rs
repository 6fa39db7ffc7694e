//! A pseudo-terminal of the container's own devpts, so that its `/dev/pts/N` exists inside.
//!
//! Runs in the helper. The master goes to the agent (it fetches a copy), the other side becomes descriptors 0 to 2.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use msb_agent::protocol::{Failure, TerminalSize};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setsid};

use crate::container::beneath::Beneath;
use crate::container::{at, plain, setup};
use crate::sys;

/// Both sides of a terminal.
#[derive(Debug)]
pub struct Pair {
    /// The agent's.
    master: OwnedFd,
    /// The process's.
    pub process: OwnedFd,
}

/// Opens a pair of the devpts beneath `root`.
///
/// # Errors
/// [`Failure::Setup`], also where `/dev/pts/ptmx` is something else: the container may have put it there.
pub fn open(root: &Beneath, size: TerminalSize) -> Result<Pair, Failure> {
    let step = || "open a terminal of the container's /dev/pts".to_owned();
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let master = root.open(Path::new("/dev/pts/ptmx"), flags).map_err(plain).map_err(at(step))?;
    let kind = fstatfs(&master).map_err(plain).map_err(at(step))?.filesystem_type();
    if kind != DEVPTS_SUPER_MAGIC {
        return Err(setup(step(), &"there is no devpts: the spec's mounts must have one at /dev/pts"));
    }
    let process = sys::open_peer(master.as_fd()).map_err(plain).map_err(at(step))?;
    if size != TerminalSize::default() {
        sys::resize(master.as_fd(), size.rows, size.columns).map_err(plain).map_err(at(step))?;
    }
    Ok(Pair { master, process })
}

/// Begins a session with this terminal as its own and as descriptors 0, 1 and 2. Gives the master back.
///
/// # Errors
/// [`Failure::Setup`].
pub fn take(pair: Pair, uid: u32) -> Result<OwnedFd, Failure> {
    let taken = || -> Result<(), Errno> {
        fchown(&pair.process, Some(Uid::from_raw(uid)), None)?;
        setsid()?;
        sys::take_terminal(pair.process.as_fd())?;
        dup2_stdin(&pair.process)?;
        dup2_stdout(&pair.process)?;
        dup2_stderr(&pair.process)
    };
    taken().map_err(plain).map_err(at(|| "take the terminal".into()))?;
    Ok(pair.master)
}
