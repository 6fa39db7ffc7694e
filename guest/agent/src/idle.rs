//! A container's first process that waits for nothing but its end: for a sandbox in which all that runs comes later, whatever
//! its image has or has not. As pid 1 it takes on what others leave, so that no dead process stays.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// The program's argument. The container names the program as `/proc/self/exe`, which is there without any file in its root.
pub const ARGUMENT: &str = msb_agent::protocol::IDLE[1];

/// Returns when it is asked to end.
pub fn run() -> i32 {
    let signals: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    if signals.thread_block().is_err() {
        return 1;
    }
    loop {
        // Those that ended before the first signal as well.
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}
