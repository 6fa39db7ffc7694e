//! A descriptor of a process, for a caller who waits for one at a socket (`--pidfd-socket`).
#![allow(unsafe_code, reason = "pidfd_open has no wrapper in nix")]

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

/// Why a caller can't be given the descriptor.
#[derive(Debug, thiserror::Error)]
pub enum PidfdError {
    /// The process has ended.
    #[error("Process {pid} can't be opened: it has ended")]
    Open {
        /// Which one.
        pid: u32,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// Nobody takes it.
    #[error("The descriptor of the process can't be handed over at {}", path.display())]
    Socket {
        /// As given with `--pidfd-socket`.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Sends a descriptor of `pid` to whoever listens at `path`, as runc does: one message whose data are `kind`.
///
/// # Errors
/// [`PidfdError`].
pub fn send(pid: u32, kind: &str, path: &Path) -> Result<(), PidfdError> {
    let fail = |source| PidfdError::Socket { path: path.to_owned(), source };
    let pidfd = open(pid).map_err(|source| PidfdError::Open { pid, source })?;
    let socket = UnixStream::connect(path).map_err(fail)?;
    let fds = [pidfd.as_raw_fd()];
    let (data, control) = ([IoSlice::new(kind.as_bytes())], [ControlMessage::ScmRights(&fds)]);
    sendmsg::<()>(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_NOSIGNAL, None)
        .map_err(|errno| fail(errno.into()))?;
    Ok(())
}

/// pidfd_open(2).
///
/// # Errors
/// The kernel's, such as for a process that has ended and was waited for.
pub fn open(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers go in.
    let raw = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let raw = RawFd::try_from(Errno::result(raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use std::{io::IoSliceMut, os::unix::net::UnixListener};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn the_descriptor_arrives_and_is_the_processs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        send(std::process::id(), "standard", &path).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut data = [0; 16];
        let mut iov = [IoSliceMut::new(&mut data)];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let message = recvmsg::<()>(peer.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty()).unwrap();
        assert_eq!(message.bytes, 8);
        let fds: Vec<_> = message.cmsgs().unwrap().collect();
        let [ControlMessageOwned::ScmRights(fds)] = &fds[..] else { panic!("no descriptor") };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0])).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", std::process::id())), "{info}");
    }

    #[test]
    fn what_is_wrong_is_told_with_the_path() {
        let error = send(std::process::id(), "standard", Path::new("/nonexistent/sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/sock"));
        let gone = send(i32::MAX.unsigned_abs(), "standard", Path::new("/"));
        assert!(matches!(gone, Err(PidfdError::Open { .. })));
    }
}
