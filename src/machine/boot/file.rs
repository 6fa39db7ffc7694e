//! Opening the host's files that a machine is made of.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
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
    /// Another machine, or the host itself, has it.
    #[error("It is in use elsewhere, and can be written to by one machine only")]
    InUse,
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
            Errno::EBUSY => Self::InUse,
            other => Self::Other { errno: other as i32 },
        }
    }
}

impl From<std::io::Error> for FileProblem {
    fn from(error: std::io::Error) -> Self {
        Self::from(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }
}

/// Opens a regular file that is not empty; returns it with its length in bytes. std sets O_CLOEXEC.
pub(in crate::machine) fn open(path: &Path, write: bool) -> Result<(File, u64), FileProblem> {
    // O_NONBLOCK: what turns out to be a FIFO must not block here; regular files do not know it.
    let file = OpenOptions::new().read(true).write(write).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileProblem::NotAFile);
    }
    match metadata.len() {
        0 => Err(FileProblem::Empty),
        length => Ok((file, length)),
    }
}
