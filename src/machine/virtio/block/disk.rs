//! What is behind a block device: bytes at offsets. An image file today; whatever can do this tomorrow.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use thiserror::Error;
use vm_memory::VolatileSlice;

use super::request::SECTOR;
use crate::machine::boot::FileProblem;

/// Buffers of the guest; a part of its memory each.
pub type Buffers<'a, 'm> = &'a [VolatileSlice<'m>];

/// The bytes of a disk. Offsets and lengths are multiples of 512 and lie within [`Disk::sectors`]: the device checked.
///
/// All calls block; the device thread does nothing else meanwhile.
pub trait Disk: Send + std::fmt::Debug {
    /// Size in sectors of 512 bytes; it never changes.
    fn sectors(&self) -> u64;
    /// Fills the buffers from `offset` (bytes), completely or with an error.
    fn read(&mut self, offset: u64, buffers: Buffers<'_, '_>) -> io::Result<()>;
    /// Writes the buffers at `offset`, completely or with an error.
    fn write(&mut self, offset: u64, buffers: Buffers<'_, '_>) -> io::Result<()>;
    /// Everything that was written is on the medium.
    fn flush(&mut self) -> io::Result<()>;
    /// The bytes are no longer needed; what is read there is not defined.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
    /// The bytes become 0; with `unmap` their place may be given back.
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;
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
    file: File,
    sectors: u64,
}

impl RawFile {
    /// Opens the image: read-only is a property of the descriptor, too.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        Self::try_open(path, read_only).map_err(|problem| DiskError { path: path.to_owned(), problem })
    }

    fn try_open(path: &Path, read_only: bool) -> Result<Self, FileProblem> {
        // O_NONBLOCK: what turns out to be a FIFO must not block here; regular files do not know it.
        let flags = libc::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(path)?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(FileProblem::NotAFile);
        }
        match file.seek(SeekFrom::End(0))? / SECTOR {
            0 => Err(FileProblem::Empty),
            sectors => Ok(Self { file, sectors }),
        }
    }

    fn allocate(&self, mode: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        let number = |value| i64::try_from(value).map_err(|_| io::Error::from(ErrorKind::InvalidInput));
        let (offset, length) = (number(offset)?, number(length)?);
        loop {
            match fallocate(&self.file, mode | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length) {
                Err(Errno::EINTR) => {}
                other => return other.map_err(Into::into),
            }
        }
    }
}

impl Disk for RawFile {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, offset: u64, buffers: Buffers<'_, '_>) -> io::Result<()> {
        transfer(&self.file, Direction::Read, offset, buffers)
    }

    fn write(&mut self, offset: u64, buffers: Buffers<'_, '_>) -> io::Result<()> {
        transfer(&self.file, Direction::Write, offset, buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, offset, length)
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        if unmap && self.discard(offset, length).is_ok() {
            return Ok(());
        }
        self.allocate(FallocateFlags::FALLOC_FL_ZERO_RANGE, offset, length)
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// From the file.
    Read,
    /// Into the file.
    Write,
}

/// preadv(2) or pwritev(2) straight between the file and guest memory, until all is done.
#[allow(unsafe_code)] // guest memory is not a Rust slice: it can only be named by address
pub(super) fn transfer(
    file: &File,
    direction: Direction,
    offset: u64,
    buffers: Buffers<'_, '_>,
) -> io::Result<()> {
    let mut done = 0_usize;
    let total = buffers.iter().map(VolatileSlice::len).sum::<usize>();
    while done < total {
        let mut skip = done;
        let guards = buffers.iter().map(|buffer| (buffer.ptr_guard_mut(), buffer.len())).collect::<Vec<_>>();
        let mut parts = Vec::with_capacity(guards.len());
        for (guard, length) in &guards {
            let gone = skip.min(*length);
            skip -= gone;
            if gone < *length {
                parts.push(libc::iovec {
                    iov_base: guard.as_ptr().wrapping_add(gone).cast(),
                    iov_len: length - gone,
                });
            }
        }
        let count = i32::try_from(parts.len().min(1024)).expect("at most IOV_MAX");
        let at = u64::try_from(done).ok().and_then(|done| i64::try_from(offset.checked_add(done)?).ok());
        let at = at.ok_or(ErrorKind::InvalidInput)?;
        let result = match direction {
            // SAFETY: each part lies in a volatile slice of guest memory, which is mapped as long as `buffers` lives;
            // nobody forms references into guest memory.
            Direction::Read => unsafe { libc::preadv(file.as_raw_fd(), parts.as_ptr(), count, at) },
            // SAFETY: as above, and only read from.
            Direction::Write => unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr(), count, at) },
        };
        match usize::try_from(result) {
            // The image was truncated under us, or the disk is full.
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    fn image(bytes: u64) -> (tempfile::NamedTempFile, RawFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        let (path, read_only) = (file.path(), false);
        let disk = RawFile::open(path, read_only).unwrap();
        (file, disk)
    }

    #[test]
    fn buffers_are_written_and_read_in_order() {
        let (_file, mut disk) = image(8192);
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        memory.write_slice(&[1; 512], GuestAddress(0)).unwrap();
        memory.write_slice(&[2; 512], GuestAddress(0x2000)).unwrap();
        let slice = |address| memory.get_slice(GuestAddress(address), 512).unwrap();
        disk.write(1024, &[slice(0x2000), slice(0)]).unwrap();
        disk.read(1024, &[slice(0x4000), slice(0x5000)]).unwrap();
        let byte = |address| memory.read_obj::<u8>(GuestAddress(address)).unwrap();
        assert_eq!((byte(0x4000), byte(0x41ff), byte(0x5000)), (2, 2, 1));
        disk.write_zeroes(1024, 512, true).unwrap();
        disk.read(1024, &[slice(0x4000), slice(0x5000)]).unwrap();
        assert_eq!((byte(0x4000), byte(0x5000)), (0, 1));
        disk.discard(1024, 1024).unwrap();
        disk.flush().unwrap();
        assert_eq!(disk.sectors(), 16);
    }

    #[test]
    fn an_image_that_was_cut_is_an_error_not_a_loop() {
        let (file, mut disk) = image(8192);
        file.as_file().set_len(512).unwrap();
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        let error = disk.read(0, &[memory.get_slice(GuestAddress(0), 1024).unwrap()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_read_only_disk_cannot_be_written_even_by_us() {
        let (file, _) = image(512);
        let (path, read_only) = (file.path(), true);
        let mut disk = RawFile::open(path, read_only).unwrap();
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        assert!(disk.write(0, &[memory.get_slice(GuestAddress(0), 512).unwrap()]).is_err());
        assert!(disk.discard(0, 512).is_err());
    }

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
}
