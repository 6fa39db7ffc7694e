//! Work that the kernel does meanwhile: an io_uring, and the jobs that wait for it.
//!
//! Enters: jobs with their next operation. Leaves: the same with the result. A job's memory and file stay until the
//! kernel is done with them: they are given out only with the result, and the end of the ring waits for all.
//!
//! What goes through a ring is seen by no seccomp filter. So a ring is told, before its first entry and for good, which
//! operations there are, and a confined machine can make none: [`Rings`] has some for the disks that come later.
#![allow(unsafe_code)] // the kernel is told addresses

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode};

use super::job::Job;
use super::operation::Operation;

/// Operations that can be under way: with this size the ring takes two pages.
pub const ROOM: u16 = 64;
/// Those that there are.
const OPERATIONS: [u8; 4] =
    [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];
/// `IORING_REGISTER_ENABLE_RINGS` (linux/io_uring.h): what ends the time in which a ring can be told anything.
const ENABLE: u8 = 12;

/// A job and the operation that it waits for.
#[derive(Debug)]
struct Waiting {
    job: Job,
    /// Owns the memory that the kernel was told of.
    _operation: Box<Operation>,
}

/// The ring.
pub struct Ring {
    ring: IoUring,
    waiting: Vec<Option<Waiting>>,
    free: Vec<usize>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("busy", &self.busy()).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring; none where the kernel has it not (before 5.10), or forbids it (`kernel.io_uring_disabled`, seccomp).
    pub fn new() -> Option<Self> {
        let ring = IoUring::builder().setup_r_disabled().build(u32::from(ROOM)).ok()?;
        let operations = OPERATIONS.map(Restriction::sqe_op);
        // A kernel may take what is registered for restricted only when one such is named: the one that comes next.
        let mut restrictions: Vec<Restriction> =
            operations.into_iter().chain([Restriction::register_op(ENABLE)]).collect();
        ring.submitter().register_restrictions(&mut restrictions).ok()?;
        ring.submitter().register_enable_rings().ok()?;
        let parameters = ring.params();
        // Fast poll came with 5.7, after every operation used here.
        let good = parameters.is_feature_fast_poll()
            && parameters.is_feature_nodrop()
            && parameters.is_feature_submit_stable();
        let free = (0..usize::from(ROOM)).rev().collect();
        let waiting = (0..ROOM).map(|_| None).collect();
        good.then_some(Self { ring, waiting, free })
    }

    /// How many operations are under way.
    pub fn busy(&self) -> usize {
        usize::from(ROOM) - self.free.len()
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a job that waits for that operation. There must be room. It begins with the next [`Ring::submit`].
    pub fn push(&mut self, job: Job, operation: Operation) {
        let slot = self.free.pop().expect("the caller asked for room");
        let operation = Box::new(operation);
        let number = u64::try_from(slot).expect("a small number");
        let entry = operation.entry().user_data(number);
        self.waiting[slot] = Some(Waiting { job, _operation: operation });
        // SAFETY: what the entry names belongs to the operation, which stays in `waiting` until the kernel has said
        // that it is done with it, and guest memory, which is never unmapped.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the ring has as many entries as there are slots");
    }

    /// Gives the kernel what was pushed. False when it has no memory for that just now: to be tried again.
    pub fn submit(&mut self) -> io::Result<bool> {
        if self.ring.submission().is_empty() {
            return Ok(true);
        }
        match self.ring.submit() {
            Ok(_) => Ok(self.ring.submission().is_empty()),
            Err(error) if is_temporary(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A job whose operation is done, and the result.
    pub fn next(&mut self) -> Option<(Job, io::Result<usize>)> {
        loop {
            let completion = self.ring.completion().next()?;
            let result = completion.result();
            let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            let slot = usize::try_from(completion.user_data()).ok();
            let waiting = slot.and_then(|slot| Some((slot, self.waiting.get_mut(slot)?.take()?)));
            // The kernel does not invent numbers.
            let Some((slot, waiting)) = waiting else { continue };
            self.free.push(slot);
            return Some((waiting.job, result));
        }
    }

    /// Waits until nothing is under way, and forgets what waited for it.
    pub fn finish(&mut self) -> io::Result<()> {
        while self.busy() > 0 {
            if self.next().is_some() {
                continue;
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if !is_temporary(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Readable when something is done.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring lives, from which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// Rings that were made before they are needed.
#[derive(Debug, Default)]
pub struct Rings(Mutex<Vec<Ring>>);

impl Rings {
    /// So many, or as many as there can be.
    pub fn new(count: usize) -> Self {
        Self(Mutex::new((0..count).map_while(|_| Ring::new()).collect()))
    }

    /// One of them, if there is one left.
    pub fn take(&self) -> Option<Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Brings one back, in which nothing is under way.
    pub fn give(&self, ring: Ring) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ring);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.finish().is_err() {
            // The kernel may still use the memory: it is never given back.
            std::mem::forget(std::mem::take(&mut self.waiting));
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

#[cfg(test)]
mod tests {
    use io_uring::{squeue, types};

    use super::*;

    /// What the kernel makes of an entry.
    fn answer(ring: &mut Ring, entry: &squeue::Entry) -> i32 {
        // SAFETY: entries of these tests name constants, nulls and no file.
        unsafe { ring.ring.submission().push(entry) }.unwrap();
        // A refused entry is told of by its completion.
        let _ = ring.ring.submit_and_wait(1);
        ring.ring.completion().next().expect("an answer").result()
    }

    #[test]
    fn a_ring_has_the_operations_of_a_disk_and_no_others() {
        let mut ring = Ring::new().expect("a kernel with io_uring");
        let path = c"/etc/hostname";
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
        for entry in [open, socket] {
            assert_eq!(answer(&mut ring, &entry), -libc::EACCES);
        }
        // And all others, by number: connect, send, link, command, …
        for operation in 0..=u8::MAX {
            let mut entry = opcode::Nop::new().build();
            // SAFETY: an entry begins with its operation's byte (`struct io_uring_sqe`).
            unsafe { (&raw mut entry).cast::<u8>().write(operation) };
            let told = answer(&mut ring, &entry);
            let right = match operation {
                // They are done: on no file.
                _ if OPERATIONS.contains(&operation) => told == -libc::EBADF,
                ..=opcode::Socket::CODE => told == -libc::EACCES,
                // Not every kernel has these.
                _ => told == -libc::EACCES || told == -libc::EINVAL,
            };
            assert!(right, "{operation}: {told}");
        }
    }

    #[test]
    fn a_disks_operations_are_done_plainly_and_nothing_more_is_registered() {
        let mut ring = Ring::new().expect("a kernel with io_uring");
        let plain = || opcode::Readv::new(types::Fd(-1), std::ptr::null(), 0).build();
        assert_eq!(answer(&mut ring, &plain()), -libc::EBADF);
        for flag in [squeue::Flags::ASYNC, squeue::Flags::FIXED_FILE] {
            assert_eq!(answer(&mut ring, &plain().flags(flag)), -libc::EACCES, "{flag:?}");
        }
        let submitter = ring.ring.submitter();
        let mut wider = [opcode::OpenAt::CODE, opcode::Connect::CODE].map(Restriction::sqe_op);
        for (what, told) in [
            ("files", submitter.register_files(&[0])),
            ("an event", submitter.register_eventfd(0)),
            ("a user", submitter.register_personality().map(drop)),
            ("workers", submitter.register_iowq_max_workers(&mut [1, 1])),
            ("other operations", submitter.register_restrictions(&mut wider)),
        ] {
            assert_eq!(told.unwrap_err().raw_os_error(), Some(libc::EACCES), "{what}");
        }
    }

    #[test]
    fn rings_are_taken_and_come_back() {
        let rings = Rings::new(1);
        let ring = rings.take().unwrap();
        assert!(rings.take().is_none());
        rings.give(ring);
        assert!(rings.take().is_some());
    }
}
