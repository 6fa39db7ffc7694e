//! One system call's worth of work on a file: at once, blocking, or as an entry of an io_uring.
//!
//! Enters: a file, a place in it, guest memory. Leaves: what the kernel says. Must never know virtio.
#![allow(unsafe_code)] // guest memory is not a Rust slice: the kernel is told its address

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::super::vector::Vector;

/// Vectors that one call takes (`IOV_MAX`).
const VECTORS_MAX: usize = 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the file.
    Read,
    /// Into the file.
    Write,
}

/// What is to be done.
#[derive(Debug)]
pub enum What {
    /// preadv2(2) or pwritev2(2).
    Transfer {
        /// Which way.
        direction: Direction,
        /// In the file, in bytes.
        offset: u64,
        /// Guest memory.
        vectors: Vec<Vector>,
    },
    /// fdatasync(2).
    Sync,
    /// fallocate(2); the file's size stays as it is.
    Allocate {
        /// What becomes of the range.
        mode: FallocateFlags,
        /// In the file, in bytes.
        offset: u64,
        /// In bytes.
        length: u64,
    },
}

/// What, and on which file.
#[derive(Debug)]
pub struct Operation {
    /// Held open until the operation is done.
    pub file: Arc<File>,
    /// What is to be done.
    pub what: What,
}

/// What came of an attempt that must not wait.
#[derive(Debug)]
pub enum Attempt {
    /// It is done, perhaps only a part: this many bytes.
    Done(io::Result<usize>),
    /// It would have to wait.
    WouldBlock,
    /// The file system cannot tell, or it isn't a transfer.
    Unknown,
}

impl Operation {
    /// Does what can be done without waiting: page cache that is there.
    pub fn at_once(&self) -> Attempt {
        let What::Transfer { direction, offset, vectors } = &self.what else { return Attempt::Unknown };
        match self.transfer(*direction, *offset, vectors, libc::RWF_NOWAIT) {
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::EAGAIN => Attempt::WouldBlock,
                Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL => Attempt::Unknown,
                _ => Attempt::Done(Err(error)),
            },
            done => Attempt::Done(done),
        }
    }

    /// Does it, however long it takes. Of a transfer, perhaps only a part.
    pub fn blocking(&self) -> io::Result<usize> {
        match &self.what {
            What::Transfer { direction, offset, vectors } => self.transfer(*direction, *offset, vectors, 0),
            What::Sync => self.file.sync_data().map(|()| 0),
            What::Allocate { mode, offset, length } => {
                let mode = *mode | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let (offset, length) = (signed(*offset)?, signed(*length)?);
                loop {
                    match fallocate(&self.file, mode, offset, length) {
                        Err(Errno::EINTR) => {}
                        other => return other.map(|()| 0).map_err(Into::into),
                    }
                }
            }
        }
    }

    fn transfer(
        &self,
        direction: Direction,
        offset: u64,
        vectors: &[Vector],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        let (fd, first, offset) = (self.file.as_raw_fd(), vectors.as_ptr().cast(), signed(offset)?);
        let count = i32::try_from(vectors.len().min(VECTORS_MAX)).expect("at most IOV_MAX");
        loop {
            let result = match direction {
                // SAFETY: `Vector` is an iovec, and each names guest memory that is mapped: see there.
                Direction::Read => unsafe { libc::preadv2(fd, first, count, offset, flags) },
                // SAFETY: as above, and only read from.
                Direction::Write => unsafe { libc::pwritev2(fd, first, count, offset, flags) },
            };
            match usize::try_from(result) {
                Ok(count) => return Ok(count),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    /// The same for an io_uring; it names the operation's own memory, which must stay where it is until it is done.
    pub fn entry(&self) -> squeue::Entry {
        let fd = types::Fd(self.file.as_raw_fd());
        match &self.what {
            What::Transfer { direction, offset, vectors } => {
                let count = u32::try_from(vectors.len().min(VECTORS_MAX)).expect("at most IOV_MAX");
                let first = vectors.as_ptr().cast();
                match direction {
                    Direction::Read => opcode::Readv::new(fd, first, count).offset(*offset).build(),
                    Direction::Write => opcode::Writev::new(fd, first, count).offset(*offset).build(),
                }
            }
            What::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            What::Allocate { mode, offset, length } => {
                let mode = *mode | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(fd, *length).offset(*offset).mode(mode.bits()).build()
            }
        }
    }
}

fn signed(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| ErrorKind::InvalidInput.into())
}
