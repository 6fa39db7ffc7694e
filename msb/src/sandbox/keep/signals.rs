//! Signals of a command that has a sandbox in its foreground are the sandbox's.

use std::{io, os::fd::OwnedFd};

use msb_runtime::process::{session::FOREGROUND, terminal};
use nix::{
    sys::signal::{self, SigSet, Signal},
    unistd::Pid,
};

use super::spawn;

/// Blocks them in this thread and those that it starts from now on: before there is anybody to forward them to they wait.
///
/// # Errors
/// The kernel's.
pub fn hold() -> io::Result<()> {
    Ok(held().thread_block()?)
}

/// Those that [`hold`] blocks, to be waited for.
#[must_use]
pub fn held() -> SigSet {
    FOREGROUND.into_iter().collect()
}

/// Passes them on to the process `vmm`; a new size of the user's terminal becomes one of `terminal`.
pub(super) fn forward(vmm: u32, terminal: Option<OwnedFd>) -> io::Result<()> {
    let signals = held();
    signals.thread_block()?;
    let pid = Pid::from_raw(i32::try_from(vmm).map_err(io::Error::other)?);
    spawn("signals", move || {
        while let Ok(received) = signals.wait() {
            match (received, &terminal) {
                (Signal::SIGWINCH, Some(master)) => {
                    if let Some(size) = terminal::size(io::stdin()) {
                        terminal::resize(master, size);
                    }
                }
                (Signal::SIGWINCH, None) => {}
                // It may have ended meanwhile, which is learnt elsewhere.
                _ => drop(signal::kill(pid, received)),
            }
        }
    })
}
