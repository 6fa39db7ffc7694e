//! How the rest of the VMM opens streams to the guest, from any thread.
//!
//! Enters: a port of the guest and one end of a unix stream. Leaves: both, in order, on the device thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;

/// Streams that may wait for the device thread. It takes them within microseconds once the guest's driver is up; until
/// then a runtime has a handful.
const MAX_WAITING: usize = 256;

/// Why a stream was not taken.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Too many wait already.
    #[error(
        "The guest's vsock driver is not up yet and {MAX_WAITING} streams wait for it already; try again later"
    )]
    Full,
    /// The machine has ended.
    #[error("The virtual machine has ended")]
    Stopped,
    /// The stream could not be made non-blocking.
    #[error("Cannot make the stream non-blocking")]
    Nonblocking(#[source] io::Error),
    /// The device thread could not be woken.
    #[error("Cannot wake the device thread")]
    Wake(#[source] io::Error),
}

/// Opens streams to the guest. Clones are for the same device.
#[derive(Debug, Clone)]
pub struct VsockHandle(Arc<Inbox>);

/// Streams on their way to the device.
#[derive(Debug)]
pub(super) struct Inbox {
    /// `None` once the device is gone.
    waiting: Mutex<Option<VecDeque<(u32, UnixStream)>>>,
    wake: EventFd,
}

impl VsockHandle {
    pub(super) fn new() -> io::Result<(Self, Arc<Inbox>)> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let inbox = Arc::new(Inbox { waiting: Mutex::new(Some(VecDeque::new())), wake });
        Ok((Self(Arc::clone(&inbox)), inbox))
    }

    /// Joins `stream` with a new vsock stream to that port of the guest. Bytes may be written into its other end at
    /// once. It waits until the guest's driver is up; when nothing listens on the port then, the stream is closed.
    ///
    /// `stream` becomes non-blocking, its other end stays as it is.
    pub fn connect(&self, guest_port: u32, stream: UnixStream) -> Result<(), ConnectError> {
        stream.set_nonblocking(true).map_err(ConnectError::Nonblocking)?;
        {
            let mut waiting = self.0.lock();
            let waiting = waiting.as_mut().ok_or(ConnectError::Stopped)?;
            if waiting.len() >= MAX_WAITING {
                return Err(ConnectError::Full);
            }
            waiting.push_back((guest_port, stream));
        }
        match self.0.wake.write(1) {
            // The counter is full: the wake-up is pending already.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(ConnectError::Wake(error.into())),
        }
    }
}

impl Inbox {
    /// A push or a pop cannot be left half done, so that a panic elsewhere does no harm here.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<(u32, UnixStream)>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when there may be something to take.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Everything that waits, oldest first.
    pub(super) fn take(&self) -> VecDeque<(u32, UnixStream)> {
        // Emptied before looking, so that a stream put in afterwards wakes again. It may be empty already.
        let _ = self.wake.read();
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Closes what waits, and refuses all that comes.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }
}
