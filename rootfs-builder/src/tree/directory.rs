//! A thread's own working directory.
//!
//! Out: the word that the calling thread's working directory is its own, which lets its holder go from directory to directory
//! without anyone noticing. It must never know why somebody wants that.

use std::marker::PhantomData;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::process::fchdir;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The thread that holds this shares its working directory with no other. It cannot be handed to another thread.
#[derive(Debug)]
pub struct OwnDirectory(PhantomData<*const ()>);

impl OwnDirectory {
    /// From here on the calling thread's working directory, umask and root are its own, until it ends: for a thread that
    /// was made for a piece of work. None where that is forbidden.
    #[must_use]
    #[allow(unsafe_code, reason = "the call is safe but for one of its flags")]
    pub fn take() -> Option<Self> {
        // SAFETY: only UnshareFlags::FILES would be unsafe, for descriptors that other threads think they share.
        let taken = unsafe { unshare_unsafe(UnshareFlags::FS) };
        taken.ok().map(|()| Self(PhantomData))
    }

    /// Makes `directory` this thread's working directory.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn enter(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        fchdir(directory)
    }
}

#[cfg(test)]
mod tests {
    use std::env::current_dir;
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn others_stay_where_they_are() {
        let before = current_dir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let there = std::thread::scope(|scope| {
            let gone = || {
                let own = OwnDirectory::take().unwrap();
                own.enter(File::open(elsewhere.path()).unwrap().as_fd()).unwrap();
                current_dir().unwrap()
            };
            scope.spawn(gone).join().unwrap()
        });
        assert_eq!(there, elsewhere.path().canonicalize().unwrap());
        assert_eq!(current_dir().unwrap(), before);
    }
}
