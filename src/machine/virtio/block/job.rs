//! One request on its way: which operation is next, until there is none.
//!
//! Enters: a checked request, the results of its operations. Leaves: operations, one at a time, and a status. It holds
//! the guest memory of its request by address and nothing that borrows, so that it can wait while others go on.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};
use vm_memory::{GuestAddress, VolatileSlice};

use super::super::vector::{Vector, cut};
use super::disk::{Disk, Place};
use super::operation::{Direction, Operation, What};

/// A request that needs the disk.
#[derive(Debug)]
pub struct Job {
    /// The chain to be returned.
    pub head: u16,
    /// Where the status byte goes.
    pub status: GuestAddress,
    /// Bytes that the device writes when it succeeds, the status included.
    pub writable: u32,
    /// What is to be done.
    pub work: Work,
}

/// What a job does.
#[derive(Debug)]
pub enum Work {
    /// Bytes between the disk and guest memory.
    Transfer(Transfer),
    /// All that was written becomes durable.
    Flush {
        /// It is.
        done: bool,
    },
    /// Bytes are given back, or become zero. The modes are tried in turn: not every file system has all of them.
    Allocate {
        /// The first of these is next.
        modes: &'static [FallocateFlags],
        /// On the disk, in bytes.
        offset: u64,
        /// In bytes.
        length: u64,
        /// It is done.
        done: bool,
    },
}

/// How a discarded range goes.
pub const DISCARD: &[FallocateFlags] = &[FallocateFlags::FALLOC_FL_PUNCH_HOLE];
/// How a range becomes zero, its place given back if possible.
pub const ZERO_AND_UNMAP: &[FallocateFlags] =
    &[FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE];
/// How a range becomes zero and keeps its place.
pub const ZERO: &[FallocateFlags] = &[FallocateFlags::FALLOC_FL_ZERO_RANGE];

/// Bytes between the disk and guest memory.
#[derive(Debug)]
pub struct Transfer {
    direction: Direction,
    offset: u64,
    vectors: Vec<Vector>,
    length: usize,
    done: usize,
    /// Of the operation that is under way.
    place: Option<(Arc<File>, Option<Arc<rootfs_builder::composed::Checked>>)>,
}

impl Transfer {
    /// All of the buffers, at `offset` of the disk.
    pub fn new(direction: Direction, offset: u64, buffers: &[VolatileSlice<'_>]) -> Self {
        let vectors: Vec<Vector> = buffers.iter().map(Vector::of).collect();
        let length = vectors.iter().map(|vector| vector.len()).sum();
        Self { direction, offset, vectors, length, done: 0, place: None }
    }

    fn next(&mut self, disk: &mut dyn Disk) -> io::Result<Option<Operation>> {
        while self.done < self.length {
            let at = u64::try_from(self.done).ok().and_then(|done| self.offset.checked_add(done));
            let left = self.length - self.done;
            match disk.locate(at.ok_or(ErrorKind::InvalidInput)?, left)? {
                Place::Zeros { length } => {
                    if self.direction == Direction::Write {
                        return Err(ErrorKind::ReadOnlyFilesystem.into());
                    }
                    cut(&self.vectors, self.done, length).into_iter().for_each(Vector::zero);
                    self.done += length.min(left);
                }
                Place::File { file, offset, length, unchanged } => {
                    let vectors = cut(&self.vectors, self.done, length);
                    self.place = Some((Arc::clone(&file), unchanged));
                    let what = What::Transfer { direction: self.direction, offset, vectors };
                    return Ok(Some(Operation { file, what }));
                }
            }
        }
        Ok(None)
    }

    fn completed(&mut self, count: usize) -> io::Result<()> {
        // The image was cut under us; a write of nothing must not go on for ever.
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.done = self.done.saturating_add(count).min(self.length);
        match self.place.take() {
            Some((file, Some(checked))) if !checked.is_unchanged(&file)? => {
                Err(io::Error::other("a layer's file changed while it was in use"))
            }
            _ => Ok(()),
        }
    }
}

impl Job {
    /// What is to be done next; none when all is done.
    pub fn next(&mut self, disk: &mut dyn Disk) -> io::Result<Option<Operation>> {
        let file = disk.written().map(Arc::clone);
        match &mut self.work {
            Work::Transfer(transfer) => transfer.next(disk),
            Work::Flush { done: true } | Work::Allocate { done: true, .. } => Ok(None),
            // Nothing was written that could be lost.
            Work::Flush { .. } => Ok(file.map(|file| Operation { file, what: What::Sync })),
            Work::Allocate { modes, offset, length, .. } => {
                let file = file.ok_or(ErrorKind::ReadOnlyFilesystem)?;
                let mode = *modes.first().ok_or(ErrorKind::Unsupported)?;
                let what = What::Allocate { mode, offset: *offset, length: *length };
                Ok(Some(Operation { file, what }))
            }
        }
    }

    /// What came of the last operation.
    pub fn completed(&mut self, result: io::Result<usize>) -> io::Result<()> {
        match (&mut self.work, result) {
            (_, Err(error)) if error.kind() == ErrorKind::Interrupted => Ok(()),
            (Work::Allocate { modes, .. }, Err(error)) if is_unsupported(&error) => {
                *modes = modes.get(1..).filter(|rest| !rest.is_empty()).ok_or(ErrorKind::Unsupported)?;
                Ok(())
            }
            (_, Err(error)) => Err(error),
            (Work::Transfer(transfer), Ok(count)) => transfer.completed(count),
            (Work::Flush { done } | Work::Allocate { done, .. }, Ok(_)) => {
                *done = true;
                Ok(())
            }
        }
    }

    /// Whether it may change the disk.
    pub fn writes(&self) -> bool {
        match &self.work {
            Work::Transfer(transfer) => transfer.direction == Direction::Write,
            Work::Allocate { .. } => true,
            Work::Flush { .. } => false,
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) || error.kind() == ErrorKind::Unsupported
}

/// The status of section 5.2.6 for a result. A full disk is an I/O error there like any other.
pub fn status(result: &io::Result<()>) -> u32 {
    match result {
        Ok(()) => VIRTIO_BLK_S_OK,
        Err(error) if is_unsupported(error) => VIRTIO_BLK_S_UNSUPP,
        Err(_) => VIRTIO_BLK_S_IOERR,
    }
}
