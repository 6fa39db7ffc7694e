//! Signal dispositions of a helper.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

/// Signals whose default is to end a process and that can be caught (signal(7)).
const FATAL: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGPIPE,
];

/// Every signal unblocked and, where the agent's parent had it ignored, back to its default.
pub fn reset_signals() -> Result<(), Errno> {
    for number in 1..=libc::SIGRTMAX() {
        // Not `sigaction` of nix: it knows no real-time signals. KILL, STOP and glibc's own two are refused, rightly.
        // SAFETY: installs no handler.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Pid 1 of a pid namespace ignores what it does not handle; a container that was not started yet must still die of
/// SIGTERM. execve takes these handlers away again.
pub fn die_of_signals() -> Result<(), Errno> {
    extern "C" fn die(signal: libc::c_int) {
        // SAFETY: `_exit` is async-signal-safe.
        unsafe { libc::_exit(128 + signal) }
    }
    let action = SigAction::new(SigHandler::Handler(die), SaFlags::empty(), SigSet::all());
    for signal in FATAL {
        // SAFETY: the handler only calls `_exit`.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}
