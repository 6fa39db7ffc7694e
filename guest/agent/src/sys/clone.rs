//! A new process that runs this same binary as a helper, in the namespaces and the cgroup it is to live in.
//!
//! clone3(2) rather than fork: the child is born in its pid namespace and cgroup, stays the agent's own child and has a
//! pidfd from the first moment. Between clone and execve it makes system calls only: the agent has other threads.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// Where a helper finds its socket to the agent.
pub const CONTROL: RawFd = 3;
/// Where a helper of an exec finds the first process's pidfd.
pub const INIT: RawFd = 4;
/// Above every number that the child gives out, so that no `dup2` hits a descriptor still needed.
const PARKING: RawFd = 64;
/// Hidden argument that makes the agent's binary a helper.
const ARGUMENTS: [&CStr; 2] = [c"msb-agent", c"--helper"];

/// What the new process gets.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// `CLONE_NEW*` flags.
    pub namespaces: u64,
    /// Directory of the cgroup it is born in.
    pub cgroup: BorrowedFd<'a>,
    /// stdin, stdout, stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its socket to the agent.
    pub control: BorrowedFd<'a>,
    /// The container's first process, to join it.
    pub init: Option<BorrowedFd<'a>>,
}

/// A new process: not yet reaped, so its pid is its own.
#[derive(Debug)]
pub struct Child {
    /// In this process's pid namespace.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Starts `/proc/self/exe` as a helper.
///
/// # Errors
/// What clone3 says. A failing execve shows as the helper's end, with status 127.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Child, Errno> {
    let control = spawn.control;
    let sources = [
        spawn.stdio[0].as_raw_fd(),
        spawn.stdio[1].as_raw_fd(),
        spawn.stdio[2].as_raw_fd(),
        control.as_raw_fd(),
        spawn.init.unwrap_or(control).as_raw_fd(),
    ];
    let count = if spawn.init.is_some() { 5 } else { 4 };
    let argv = [ARGUMENTS[0].as_ptr(), ARGUMENTS[1].as_ptr(), ptr::null()];
    let envp = [ptr::null()];

    let mut pidfd: RawFd = -1;
    let flags = spawn.namespaces | u64::from(libc::CLONE_PIDFD.unsigned_abs()) | CLONE_INTO_CGROUP;
    // SAFETY: all zeroes is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.pidfd = u64::try_from((&raw mut pidfd).addr()).unwrap_or(0);
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.cgroup = u64::try_from(spawn.cgroup.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    // SAFETY: without CLONE_VM the child has a copy of this address space, so it returns here like after fork;
    // `arguments` is a valid structure of the size given.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if pid == 0 {
        become_helper(&sources[..count], &argv, &envp);
    }
    let pid = i32::try_from(Errno::result(pid)?).map_err(|_| Errno::ECHILD)?;
    // SAFETY: CLONE_PIDFD stored a descriptor that nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// `CLONE_INTO_CGROUP` of linux/sched.h (libc's own is an int, where it does not fit).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The child's part: no allocation, no lock, nothing but system calls.
fn become_helper(sources: &[RawFd], argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> ! {
    let mut parked = [-1; 5];
    for (slot, source) in parked.iter_mut().zip(sources) {
        // SAFETY: plain numbers go in.
        *slot = unsafe { libc::fcntl(*source, libc::F_DUPFD, PARKING) };
    }
    for (target, source) in (0..).zip(&parked[..sources.len()]) {
        // SAFETY: plain numbers go in; dup2 clears the close-on-exec flag.
        if unsafe { libc::dup2(*source, target) } < 0 {
            leave();
        }
    }
    let above = u32::try_from(sources.len()).unwrap_or(3);
    // SAFETY: closes the copies of the agent's descriptors in this process only.
    unsafe { libc::syscall(libc::SYS_close_range, above, u32::MAX, 0) };
    // SAFETY: both arrays end with a null pointer and their strings are static.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    leave()
}

fn leave() -> ! {
    // SAFETY: ends this process without running anything of the agent's.
    unsafe { libc::_exit(127) }
}
