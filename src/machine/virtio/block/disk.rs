//! What is behind a block device: which file has the bytes at an offset. Here an image file or a block device; in
//! `composed.rs` many files.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rootfs_builder::composed::Checked;
use thiserror::Error;

use super::request::SECTOR;
use crate::machine::boot::FileProblem;

/// Where bytes of a disk are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file.
    File {
        /// Which one.
        file: Arc<File>,
        /// From here on, in bytes.
        offset: u64,
        /// How many of them, not none.
        length: usize,
        /// What the file must still be *after* it was read: bytes of before and after a change must not be served
        /// together as if they were one.
        unchanged: Option<Arc<Checked>>,
    },
    /// Nowhere: they are zero.
    Zeros {
        /// How many, not none.
        length: usize,
    },
}

/// The bytes of a disk. Offsets and lengths are multiples of 512 and lie within [`Disk::sectors`]: the device checked.
pub trait Disk: Send + std::fmt::Debug {
    /// Size in sectors of 512 bytes; it never changes.
    fn sectors(&self) -> u64;
    /// Where the first of the `length` bytes at `offset` are; the rest may be elsewhere.
    fn locate(&mut self, offset: u64, length: usize) -> io::Result<Place>;
    /// The one file that all that is written goes to; none where nothing can be written.
    fn written(&self) -> Option<&Arc<File>>;
}

/// Why a disk cannot be opened.
#[derive(Debug, Error)]
#[error("Cannot use the disk image {}", path.display())]
pub struct DiskError {
    /// The image.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: FileProblem,
}

/// A raw image, in a file or on a block device. Its format is never guessed from its contents, which the guest writes.
#[derive(Debug)]
pub struct RawFile {
    file: Arc<File>,
    sectors: u64,
    read_only: bool,
}

impl RawFile {
    /// The image's file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Opens the image: read-only is a property of the descriptor, too.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        Self::try_open(path, read_only).map_err(|problem| DiskError { path: path.to_owned(), problem })
    }

    fn try_open(path: &Path, read_only: bool) -> Result<Self, FileProblem> {
        // O_NONBLOCK: what turns out to be a FIFO must not block here; regular files do not know it. O_EXCL, which means
        // something to block devices only: nobody else, the host's kernel included, has it mounted.
        let flags = libc::O_NONBLOCK | if read_only { 0 } else { libc::O_EXCL };
        let file = OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(path)?;
        Self::from_file(file, read_only)
    }

    /// The image in `file`, which was opened as [`Self::open`] does. Whoever shares its description shares its lock.
    ///
    /// # Errors
    /// When it is no image, or another machine writes to it.
    pub fn from_file(mut file: File, read_only: bool) -> Result<Self, FileProblem> {
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(FileProblem::NotAFile);
        }
        if !read_only && file.try_lock().is_err() {
            return Err(FileProblem::InUse);
        }
        match file.seek(SeekFrom::End(0))? / SECTOR {
            0 => Err(FileProblem::Empty),
            sectors => Ok(Self { file: Arc::new(file), sectors, read_only }),
        }
    }
}

impl Disk for RawFile {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn locate(&mut self, offset: u64, length: usize) -> io::Result<Place> {
        Ok(Place::File { file: Arc::clone(&self.file), offset, length, unchanged: None })
    }

    fn written(&self) -> Option<&Arc<File>> {
        (!self.read_only).then_some(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_image_is_refused() {
        let open = |path: &str| RawFile::open(Path::new(path), true).unwrap_err().problem;
        assert_eq!(open("/nonexistent"), FileProblem::Missing);
        assert_eq!(open("/"), FileProblem::NotAFile);
        assert_eq!(open("/dev/zero"), FileProblem::NotAFile);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 511]).unwrap();
        assert_eq!(open(file.path().to_str().unwrap()), FileProblem::Empty);
    }

    #[test]
    fn what_is_written_to_belongs_to_one_machine() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(512).unwrap();
        let first = RawFile::open(file.path(), false).unwrap();
        assert_eq!(RawFile::open(file.path(), false).unwrap_err().problem, FileProblem::InUse);
        assert!(RawFile::open(file.path(), true).is_ok());
        drop(first);
        assert!(RawFile::open(file.path(), false).is_ok());
    }

    #[test]
    fn a_read_only_disk_has_nothing_to_write_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1023).unwrap();
        let disk = RawFile::open(file.path(), true).unwrap();
        assert_eq!((disk.sectors(), disk.written().is_none()), (1, true));
        assert!(std::io::Write::write(&mut &*disk.file, b"x").is_err());
    }
}
