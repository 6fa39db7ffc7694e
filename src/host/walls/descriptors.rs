//! Which descriptors a forked process keeps.
#![allow(
    unsafe_code,
    reason = "close_range has no wrapper in nix, and what it closes has owners in copied memory"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use nix::{errno::Errno, libc};

/// The first one above stderr.
const ABOVE_STDIO: RawFd = 3;

/// See [`super::close_all_but`].
pub(super) fn close_all_but(kept: &[BorrowedFd]) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stdio in 0..ABOVE_STDIO {
        // SAFETY: stdio has no owner in Rust, and the numbers are plain.
        Errno::result(unsafe { libc::dup2(null.as_raw_fd(), stdio) })?;
    }
    // Of no use any more, and closed with all others.
    std::mem::forget(null);
    let mut numbers: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let mut next = ABOVE_STDIO;
    for number in numbers {
        if number < next {
            continue;
        }
        close(next, number - 1)?;
        next = number + 1;
    }
    close(next, RawFd::MAX)
}

fn close(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: this process was forked from one whose owners of these descriptors are not used or dropped here: it never
    // returns into its parent's frames.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Ok(Errno::result(closed).map(drop)?)
}
