//! How the rest of the VMM sets the size of the balloon, from any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Sets the size of the balloon and asks for it. Clones are for the same device.
#[derive(Debug, Clone)]
pub struct BalloonHandle(Arc<Sizes>);

/// What the two sides tell each other, in pages of 4096 bytes.
#[derive(Debug)]
pub(super) struct Sizes {
    /// What the guest may have to give up.
    most: u32,
    wanted: AtomicU32,
    actual: AtomicU32,
    wake: EventFd,
}

impl BalloonHandle {
    /// `most`: what the guest may have to give up, in pages of 4096 bytes.
    pub(super) fn new(most: u32) -> io::Result<(Self, Arc<Sizes>)> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let sizes = Sizes { most, wanted: AtomicU32::new(0), actual: AtomicU32::new(0), wake };
        let sizes = Arc::new(sizes);
        Ok((Self(Arc::clone(&sizes)), sizes))
    }

    /// Asks the guest to give up so many pages of 4096 bytes in all, or as many as it can spare at most.
    pub(crate) fn want(&self, pages: u64) {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX).min(self.0.most);
        self.0.wanted.store(pages, Ordering::SeqCst);
        // It can only be full, and then the device is about to look.
        let _ = self.0.wake.write(1);
    }

    /// How many pages of 4096 bytes the guest says that it has given up.
    pub(crate) fn actual(&self) -> u32 {
        self.0.actual.load(Ordering::SeqCst)
    }
}

impl Sizes {
    /// Readable when the wanted size may have changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The wanted size.
    pub(super) fn wanted(&self) -> u32 {
        // Emptied before looking, so that a size set afterwards wakes again. It may be empty already.
        let _ = self.wake.read();
        self.wanted.load(Ordering::SeqCst)
    }

    /// What the guest says.
    pub(super) fn set_actual(&self, pages: u32) {
        self.actual.store(pages, Ordering::SeqCst);
    }
}
