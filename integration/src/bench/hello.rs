//! How long another VMM takes, with our kernel and our initramfs, until the agent calls the host.
//!
//! The agent connects to the host's vsock port 1024 as its first act; here the kernel's vhost-vsock takes the call,
//! since the VMM is not ours.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, AsRawFd},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept, bind, listen, socket},
};

/// The agent's port, `msb_agent::protocol::CHANNEL_PORT`.
const PORT: u32 = 1024;

/// A guest that has not called by then, in milliseconds, never will.
const PATIENCE: u16 = 60_000;

/// Starts `command` and returns the nanoseconds from its start to the agent's call; then ends it.
///
/// # Errors
/// When it can't be started, ends early or never calls.
pub fn run(command: &[OsString]) -> io::Result<u64> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let listener = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(nix::libc::VMADDR_CID_ANY, PORT))?;
    listen(&listener, Backlog::new(1)?)?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    let called = await_call(&listener).map(|()| began.elapsed());
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    called.map(|elapsed: Duration| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

fn await_call(listener: &impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
        }
    }
    let stream = accept(listener.as_fd().as_raw_fd())?;
    Ok(nix::unistd::close(stream)?)
}
