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
use vm_memory::VolatileSlice;

/// Vectors that one call takes (`IOV_MAX`).
const VECTORS_MAX: usize = 1024;

/// A buffer of guest memory, by its address, so that it can be kept while the kernel works on it.
///
/// Guest memory is never unmapped while a device may hold one of these (see `machine::memory`), and nobody forms
/// references into it.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Vector(libc::iovec);

// SAFETY: an address of guest memory, which is shared by all threads of the process and of the guest anyway.
unsafe impl Send for Vector {}

impl Vector {
    /// The buffer's address and length.
    pub fn of(slice: &VolatileSlice<'_>) -> Self {
        Self(libc::iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() })
    }

    /// Bytes.
    pub fn len(self) -> usize {
        self.0.iov_len
    }

    /// `count` bytes of it from `skip` on; as many as there are.
    fn part(self, skip: usize, count: usize) -> Self {
        let skip = skip.min(self.0.iov_len);
        let length = (self.0.iov_len - skip).min(count);
        Self(libc::iovec { iov_base: self.0.iov_base.wrapping_byte_add(skip), iov_len: length })
    }

    /// Makes it zeros.
    pub fn zero(self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        // SAFETY: an address and a length of guest memory: see the type.
        let slice = unsafe { VolatileSlice::new(self.0.iov_base.cast(), self.0.iov_len) };
        let mut at = 0;
        while at < slice.len()
            && let Ok(rest) = slice.offset(at)
        {
            at += ZEROS.len();
            rest.copy_from(&ZEROS[..]);
        }
    }
}

/// Bytes `skip` to `skip + count` of some buffers, taken together.
pub fn cut(vectors: &[Vector], mut skip: usize, mut count: usize) -> Vec<Vector> {
    let mut parts = Vec::with_capacity(vectors.len());
    for vector in vectors {
        if skip >= vector.len() {
            skip -= vector.len();
            continue;
        }
        let part = vector.part(skip, count);
        (skip, count) = (0, count - part.len());
        parts.push(part);
        if count == 0 {
            break;
        }
    }
    parts
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::*;

    proptest! {
        /// A cut is what a cut of the joined buffers would be.
        #[test]
        fn a_cut_is_a_cut_of_the_whole(
            lengths in prop::collection::vec(1_usize..9, 1..6), skip in 0_usize..40, count in 1_usize..40,
        ) {
            let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
            let slices = lengths.iter().enumerate().map(|(index, length)| {
                memory.get_slice(GuestAddress(u64::try_from(index).unwrap() * 64), *length).unwrap()
            });
            let vectors: Vec<Vector> = slices.map(|slice| Vector::of(&slice)).collect();
            let bytes = |vectors: &[Vector]| -> Vec<usize> {
                vectors.iter().flat_map(|vector| {
                    let start = vector.0.iov_base.addr();
                    start..start + vector.len()
                }).collect()
            };
            let whole = bytes(&vectors);
            let expected: Vec<usize> = whole.into_iter().skip(skip).take(count).collect();
            prop_assert_eq!(bytes(&cut(&vectors, skip, count)), expected);
        }
    }
}
