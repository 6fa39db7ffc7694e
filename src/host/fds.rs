//! Descriptors that callers leak into us.
//!
//! containerd's shim leaves its listening sockets open, conmon its pipes. The VMM would hold them for the life
//! of the container, so everything above stderr is marked to be closed at the next `execve`.
#![allow(unsafe_code, reason = "close_range has no wrapper in nix")]

use nix::errno::Errno;

/// Marks every descriptor from 3 on close-on-exec: those inherited, before any of our own is opened.
///
/// # Errors
/// The kernel's, on one before 5.11.
pub fn forget_inherited() -> Result<(), Errno> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC touches no memory and closes nothing now.
    let result = unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, 3_u32, u32::MAX, nix::libc::CLOSE_RANGE_CLOEXEC)
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn an_inherited_descriptor_does_not_survive_exec() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let flags = |fd| FdFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(!flags(reader.as_fd()).contains(FdFlag::FD_CLOEXEC));
        forget_inherited().unwrap();
        assert!(flags(reader.as_fd()).contains(FdFlag::FD_CLOEXEC));
    }
}
