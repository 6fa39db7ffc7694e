//! Terminals of the host: the pair for a container with a terminal, its way to the caller, sizes, raw mode.
//!
//! The guest has the real terminal with its line discipline; the host's is raw, a pipe with a size.
#![allow(unsafe_code, reason = "three terminal ioctls that nix does not wrap")]

use std::{
    io::{self, IoSlice},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use msb_agent::protocol::TerminalSize;
use nix::{
    errno::Errno,
    pty::openpty,
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};

mod ioctl {
    nix::ioctl_read_bad!(tiocgwinsz, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    nix::ioctl_write_ptr_bad!(tiocswinsz, nix::libc::TIOCSWINSZ, nix::libc::winsize);
    nix::ioctl_write_int_bad!(tiocsctty, nix::libc::TIOCSCTTY);
}

/// What can go wrong with a terminal.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// No pseudo-terminal was to be had.
    #[error("No terminal could be made")]
    Open(#[source] Errno),
    /// Its attributes can't be changed.
    #[error("The terminal can't be made raw")]
    Raw(#[source] Errno),
    /// It can't become the controlling terminal.
    #[error("The terminal can't be taken as the controlling one")]
    Control(#[source] Errno),
    /// The caller's console socket.
    #[error("The terminal can't be handed over at {}", path.display())]
    ConsoleSocket {
        /// As given with `--console-socket`.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A pseudo-terminal's two ends.
#[derive(Debug)]
pub struct Pair {
    /// The caller's.
    pub master: OwnedFd,
    /// The container's: raw, since the guest's own terminal does the cooking.
    pub slave: OwnedFd,
}

impl Pair {
    /// A fresh pair whose slave is raw.
    ///
    /// # Errors
    /// [`TerminalError::Open`], [`TerminalError::Raw`].
    pub fn open() -> Result<Self, TerminalError> {
        let pair = openpty(None, None).map_err(TerminalError::Open)?;
        let mut mode = tcgetattr(&pair.slave).map_err(TerminalError::Raw)?;
        cfmakeraw(&mut mode);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &mode).map_err(TerminalError::Raw)?;
        Ok(Self { master: pair.master, slave: pair.slave })
    }

    /// Sends the master to whoever listens at `path`, as `runc --console-socket` does: one message with the
    /// slave's name as its data and the descriptor beside it.
    ///
    /// # Errors
    /// [`TerminalError::ConsoleSocket`].
    pub fn send_master(&self, path: &Path) -> Result<(), TerminalError> {
        let fail = |source| TerminalError::ConsoleSocket { path: path.to_owned(), source };
        let socket = UnixStream::connect(path).map_err(fail)?;
        let fds = [self.master.as_raw_fd()];
        let data = [IoSlice::new(b"/dev/ptmx")];
        sendmsg::<()>(
            socket.as_raw_fd(),
            &data,
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|errno| fail(errno.into()))?;
        Ok(())
    }
}

/// The size of a terminal; `None` where it is none or has no size yet.
#[must_use]
pub fn size(terminal: impl AsFd) -> Option<TerminalSize> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a winsize that lives through the call, which is all TIOCGWINSZ writes to.
    unsafe { ioctl::tiocgwinsz(terminal.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
    let size = TerminalSize { rows: size.ws_row, columns: size.ws_col };
    (size != TerminalSize::default()).then_some(size)
}

/// Gives a terminal a size; whoever has it as controlling terminal gets SIGWINCH. One that is gone is no matter.
pub fn resize(terminal: impl AsFd, size: TerminalSize) {
    let size = nix::libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a winsize that lives through the call, which TIOCSWINSZ only reads.
    let _ = unsafe { ioctl::tiocswinsz(terminal.as_fd().as_raw_fd(), &raw const size) };
}

/// Makes `terminal` the controlling one of this process, which must lead a session without any.
///
/// # Errors
/// [`TerminalError::Control`].
pub fn take_control(terminal: BorrowedFd) -> Result<(), TerminalError> {
    // SAFETY: TIOCSCTTY takes an integer and touches no memory of ours.
    unsafe { ioctl::tiocsctty(terminal.as_raw_fd(), 0) }.map_err(TerminalError::Control)?;
    Ok(())
}

/// A user's terminal in raw mode, put back on drop.
#[derive(Debug)]
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes `terminal` raw.
    ///
    /// # Errors
    /// [`TerminalError::Raw`], also when it is no terminal.
    pub fn enter(terminal: impl AsFd) -> Result<Self, TerminalError> {
        let owned = terminal
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| TerminalError::Raw(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        let before = tcgetattr(&owned).map_err(TerminalError::Raw)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&owned, SetArg::TCSANOW, &raw).map_err(TerminalError::Raw)?;
        Ok(Self { terminal: owned, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The user's terminal may be gone by now; then there is nothing to restore.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::{io::IoSliceMut, os::unix::net::UnixListener};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn a_size_given_to_the_master_is_the_slaves() {
        let pair = Pair::open().unwrap();
        assert_eq!(size(&pair.slave), None);
        resize(&pair.master, TerminalSize { rows: 33, columns: 111 });
        assert_eq!(size(&pair.slave), Some(TerminalSize { rows: 33, columns: 111 }));
    }

    #[test]
    fn a_pipe_has_no_size() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(size(&reader), None);
    }

    #[test]
    fn the_master_arrives_at_the_console_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pty.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let pair = Pair::open().unwrap();
        pair.send_master(&path).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut data = [0; 16];
        let mut iov = [IoSliceMut::new(&mut data)];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let message = recvmsg::<()>(peer.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty()).unwrap();
        let fds: Vec<_> = message.cmsgs().unwrap().collect();
        assert!(matches!(&fds[..], [ControlMessageOwned::ScmRights(fds)] if fds.len() == 1));
    }

    #[test]
    fn a_missing_console_socket_names_its_path() {
        let error = Pair::open().unwrap().send_master(Path::new("/nonexistent/pty.sock")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pty.sock"));
    }
}
