//! A file that is copied into the guest: mapped, so that the copy is a plain one in this process.
#![allow(unsafe_code)] // mmap

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use thiserror::Error;

/// Why a file of the host cannot be used. In our own words: those of the kernel make Docker think that the
/// container's command is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FileProblem {
    /// It is not there.
    #[error("The file does not exist")]
    Missing,
    /// It is not for us.
    #[error("This user may not open the file")]
    NoAccess,
    /// It is a directory, a socket or the like.
    #[error("It is not a regular file")]
    NotAFile,
    /// It has no bytes.
    #[error("The file is empty")]
    Empty,
    /// Anything else.
    #[error("The file cannot be used (errno {errno})")]
    Other {
        /// Linux error number.
        errno: i32,
    },
}

impl From<Errno> for FileProblem {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Self::Missing,
            Errno::EACCES | Errno::EPERM => Self::NoAccess,
            Errno::EISDIR => Self::NotAFile,
            other => Self::Other { errno: other as i32 },
        }
    }
}

impl From<std::io::Error> for FileProblem {
    fn from(error: std::io::Error) -> Self {
        Self::from(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }
}

/// The bytes of a file. Whoever can truncate it while it is copied can end this process (SIGBUS): it is a file of the
/// host's owner, as the program itself is.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Self, FileProblem> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.file_type().is_fifo() || !metadata.is_file() {
            return Err(FileProblem::NotAFile);
        }
        let length = usize::try_from(metadata.len()).map_err(|_| FileProblem::from(Errno::EFBIG))?;
        let length = NonZeroUsize::new(length).ok_or(FileProblem::Empty)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new, read-only mapping where the kernel likes.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, &file, 0) }?;
        Ok(Self { start, length })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable for that length until drop; nobody writes through this private mapping.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length.get()) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping of `open`; `bytes` borrows from self, so nobody uses it any more. It cannot fail.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}
