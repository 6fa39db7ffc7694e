//! A file's data, from the scratch disk to a file on the host; what is a hole stays one.
//!
//! In: an inode and an empty file. Out: its content and its size. It must never know its name.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::copy_file_range;
use rustix::io::Errno;

use crate::ext4::reader::{Budget, DiskError, Extent, Inode, Scratch};

const BLOCK: u64 = 4096;
/// How much is copied at once through memory, in bytes.
const BUFFER: u64 = 1 << 20;

/// Reading or writing failed.
pub(super) enum CopyError {
    Disk(DiskError),
    Host(Errno),
}

impl From<DiskError> for CopyError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Copies data into empty files, with what it learnt from the ones before.
#[derive(Debug)]
pub(super) struct Copier {
    buffer: Vec<u8>,
    /// The kernel copies by itself between these two file systems, as far as is known.
    in_kernel: bool,
    /// Bytes copied.
    pub(super) copied: u64,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), in_kernel: true, copied: 0 }
    }

    /// Gives `target` the data and the size of `inode`.
    pub(super) fn copy(
        &mut self,
        scratch: &Scratch,
        inode: &Inode,
        budget: &mut Budget,
        target: &File,
    ) -> Result<(), CopyError> {
        let mut end = 0;
        scratch.extents(inode, budget, &mut |extent: Extent| {
            let start = extent.file * BLOCK;
            let length = (extent.count * BLOCK).min(inode.size.saturating_sub(start));
            if length > 0 {
                self.piece(scratch, extent, length, target)?;
                end = start + length;
            }
            Ok::<(), CopyError>(())
        })?;
        if end < inode.size {
            rustix::fs::ftruncate(target, inode.size).map_err(CopyError::Host)?;
        }
        Ok(())
    }

    /// Copies the first `length` bytes of an extent.
    fn piece(
        &mut self,
        scratch: &Scratch,
        extent: Extent,
        length: u64,
        target: &File,
    ) -> Result<(), CopyError> {
        self.copied += length;
        let mut done = 0;
        if self.in_kernel
            && let Some(image) = scratch.plain(extent)
        {
            while done < length {
                let mut from = extent.disk * BLOCK + done;
                let mut to = extent.file * BLOCK + done;
                let count = usize::try_from(length - done).unwrap_or(usize::MAX);
                match copy_file_range(image, Some(&mut from), target, Some(&mut to), count) {
                    Ok(0) => break,
                    Ok(count) => done += u64::try_from(count).expect("no more than asked for"),
                    Err(Errno::INTR) => {}
                    Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                        self.in_kernel = false;
                        break;
                    }
                    Err(errno) => return Err(CopyError::Host(errno)),
                }
            }
        }
        while done < length {
            let count = usize::try_from((length - done).min(BUFFER)).expect("no more than a buffer");
            if self.buffer.len() < count {
                self.buffer.resize(count, 0);
            }
            let buffer = &mut self.buffer[..count];
            scratch.read(extent, done, buffer)?;
            target
                .write_all_at(buffer, extent.file * BLOCK + done)
                .map_err(|error| CopyError::Host(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            done += u64::try_from(count).expect("no more than a buffer");
        }
        Ok(())
    }
}
