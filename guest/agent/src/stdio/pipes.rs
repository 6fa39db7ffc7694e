//! Three pipes, or two and `/dev/null`.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use msb_agent::protocol::{Failure, Process};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::streams::Ends;
use crate::container::{at, plain};

/// What a helper gets as 0, 1, 2.
pub type Inner = [OwnedFd; 3];

/// Makes what the process needs. With a terminal all three are `/dev/null` until the helper has it.
///
/// # Errors
/// [`Failure::Setup`].
pub fn make(process: &Process) -> Result<(Inner, Ends), Failure> {
    if process.terminal.is_some() {
        return Ok(([null()?, null()?, null()?], Ends::default()));
    }
    let mut ends = Ends::default();
    let stdin = if process.stdin {
        let (read, write) = pipe()?;
        no_waiting(&write)?;
        ends.stdin = Some(write);
        read
    } else {
        null()?
    };
    let (stdout, out) = pipe()?;
    let (stderr, err) = pipe()?;
    no_waiting(&stdout)?;
    no_waiting(&stderr)?;
    ends.stdout = Some(stdout);
    ends.stderr = Some(stderr);
    Ok(([stdin, out, err], ends))
}

/// The relays wait in poll, where they can be told to stop. The process's end is another description: it blocks as ever.
///
/// # Errors
/// [`Failure::Setup`].
pub fn no_waiting(end: &OwnedFd) -> Result<(), Failure> {
    fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map(drop)
        .map_err(plain)
        .map_err(at(|| "prepare a stream".into()))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe2(OFlag::O_CLOEXEC).map_err(plain).map_err(at(|| "make a pipe".into()))
}

fn null() -> Result<OwnedFd, Failure> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(at(|| "open /dev/null".into()))
}
