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

/// How much is compared in one run, in bytes: files that are not what they were need not be long.
const COMPARED: u64 = 1 << 30;
/// At once.
const PIECE: u64 = 64 << 10;

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
    /// Bytes that may still be compared: a hole has a size too, and costs its guest nothing.
    comparable: u64,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), in_kernel: true, copied: 0, comparable: COMPARED }
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

    /// Whether two files have the same content, as far as that may still be found out.
    pub(super) fn is_same(&mut self, one: &File, other: &File) -> Result<bool, Errno> {
        let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let length = one.metadata().map_err(failed)?.len();
        if length != other.metadata().map_err(failed)?.len() || length > self.comparable {
            return Ok(false);
        }
        self.comparable -= length;
        let mut pieces = [vec![0; usize::try_from(PIECE).expect("a small number")], Vec::new()];
        pieces[1] = pieces[0].clone();
        let mut at = 0;
        while at < length {
            let count = usize::try_from((length - at).min(PIECE)).expect("no more than a piece");
            for (file, piece) in [one, other].into_iter().zip(&mut pieces) {
                file.read_exact_at(&mut piece[..count], at).map_err(failed)?;
            }
            if pieces[0][..count] != pieces[1][..count] {
                return Ok(false);
            }
            at += PIECE;
        }
        Ok(true)
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
