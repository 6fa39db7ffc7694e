//! System calls that nix does not offer, each as one safe function.
//!
//! In: descriptors and plain values. Out: an [`Errno`] or the result. No policy lives here.
// The agent's only unsafe code besides its entry: see design.md, "unsafe only in … the agent's process set-up".
#![allow(unsafe_code)]

mod bpf;
mod clone;
mod schedule;
mod seccomp;
mod signal;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};

pub use bpf::{attach_device_filter, attach_to_cgroup, load_device_filter, load_sock_addr};
pub use clone::{Child, Spawn, spawn};
pub use schedule::{set_io_priority, set_scheduler};
pub use seccomp::install_filter;
pub use signal::{die_of_signals, reset_signals};

/// Takes the descriptor that the agent gave this helper under a number agreed on ([`clone::CONTROL`]).
pub fn control_descriptor() -> File {
    // SAFETY: `spawn` put it there, and only the helper's main function calls this, once.
    unsafe { File::from_raw_fd(clone::CONTROL) }
}

/// As [`control_descriptor`], the first process's pidfd, which only helpers of an exec have.
pub fn init_descriptor() -> OwnedFd {
    // SAFETY: as above, for `Spawn::init`.
    unsafe { OwnedFd::from_raw_fd(clone::INIT) }
}

/// accept4(2) with `SOCK_CLOEXEC`.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let raw = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers go in.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(raw)
}

/// pidfd_getfd(2): a copy of another process's descriptor.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers go in.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    owned(raw)
}

fn owned(raw: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = RawFd::try_from(Errno::result(raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Every descriptor above stderr is closed by the next `execve` (CVE-2024-21626).
pub fn close_above_stderr_on_exec() -> Result<(), Errno> {
    // SAFETY: only sets flags.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Makes the terminal `terminal` the controlling one of this session.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the argument of TIOCSCTTY is a number.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Unlocks a pseudo-terminal and opens its other side, without any path (ioctl_tty(2), TIOCGPTPEER).
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument of TIOCGPTPEER is a number.
    let raw = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    owned(raw.into())
}

/// Stops all writing to a file system, whose journal is empty then (`FIFREEZE` of linux/fs.h).
pub fn freeze(file_system: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `_IOWR('X', 119, int)`
    const FIFREEZE: libc::Ioctl = 0xC004_5877_u32 as libc::Ioctl;
    // SAFETY: the kernel reads nothing at the argument.
    Errno::result(unsafe { libc::ioctl(file_system.as_raw_fd(), FIFREEZE, 0) }).map(drop)
}

/// Gives a terminal its size.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// setrlimit(2) by the number of the resource.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: reads one rlimit64; 0 is this process.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })
    .map(drop)
}

/// personality(2) with one of its domains.
pub fn set_personality(domain: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: a plain number goes in.
    Errno::result(unsafe { libc::personality(domain) }).map(drop)
}

/// capset(2) of this thread.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words per set.
    const VERSION: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION, 0];
    let halves = [effective, permitted, inheritable].map(|set| {
        let [a, b, c, d, e, f, g, h] = set.to_le_bytes();
        [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
    });
    let data: [[u32; 3]; 2] = [0, 1].map(|half| halves.map(|set| set[half]));
    // SAFETY: reads one header and, in this version, two structures of three words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> Result<(), Errno> {
    // SAFETY: reads `len` bytes of `name`.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Brings a network interface up.
pub fn bring_up(socket: impl AsFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    Errno::result(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}

/// kill(2) with any signal number: nix's enum has no real-time signals.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers go in.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// adjtime(3): the clock runs slower or faster until it has made up for so many microseconds.
pub fn slew_clock(microseconds: i64) -> Result<(), Errno> {
    // SAFETY: all zeroes are a `timex`: numbers only.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = microseconds;
    // SAFETY: the kernel reads and writes that struct and nothing else.
    Errno::result(unsafe { libc::adjtimex(&mut request) }).map(drop)
}
