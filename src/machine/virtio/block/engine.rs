//! Carries jobs out: at once where the bytes are in memory, by the kernel meanwhile where they are not.
//!
//! Most requests find their bytes in the host's page cache: `RWF_NOWAIT` serves these in one system call without any
//! other thread, event or interrupt of ours. What would have to wait goes to an io_uring. Some file systems (ext4 for
//! writes, tmpfs) cannot tell beforehand: there the call is made as it is while such calls are quick, and for a while by
//! the ring after some were not (dirty pages over the limit, a slow disk), since the device thread serves all devices.
//! fdatasync and fallocate always go to the ring. Without one (old kernel, `kernel.io_uring_disabled`) all calls block, and with
//! one those for which the kernel gets no thread.

use std::io;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::job::{Job, Work};
use super::operation::{Attempt, Direction, Operation, What};
use super::ring::Ring;

/// A call that takes longer keeps the other devices waiting too long. 1 MiB is copied in less even under emulation
/// (3 ms); a writer that the kernel holds back for its dirty pages waits for more.
const PATIENCE: Duration = Duration::from_millis(10);
/// Bytes of a call that is tried at once: Linux asks for less. What is longer the kernel moves meanwhile.
const AT_ONCE: usize = 4 << 20;
/// So many operations go to the ring after two in a row that took longer, before the next is tried. One alone may have
/// waited for a processor, not for the disk.
const CAUTIOUS: u32 = 64;

/// A job that is over.
pub type Finished = (Job, io::Result<()>);

/// The disk, and what is under way there.
#[derive(Debug)]
pub struct Engine {
    disk: Box<dyn Disk>,
    ring: Option<Ring>,
    /// Whether the file system can tell that a read, or a write, would have to wait.
    tells: [bool; 2],
    /// The last call that might block was slow.
    slow: bool,
    /// Operations that still go to the ring because calls were slow.
    cautious: u32,
    /// Something may be written that is not durable.
    dirty: bool,
    /// Flushes under way: what they make durable is not so yet.
    flushing: u32,
}

impl Engine {
    /// For that disk; with a ring, the kernel works meanwhile.
    pub fn new(disk: Box<dyn Disk>, ring: Option<Ring>) -> Self {
        // Whatever was written before the machine started may be in the page cache only.
        Self { disk, ring, tells: [true; 2], slow: false, cautious: 0, dirty: true, flushing: 0 }
    }

    /// The disk's size.
    pub fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    /// What is under way.
    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    /// Whether one more job can be begun.
    pub fn has_room(&self) -> bool {
        self.ring.as_ref().is_none_or(Ring::has_room)
    }

    /// Begins a job; there must be room. None when it waits for the ring.
    pub fn begin(&mut self, job: Job) -> Option<Finished> {
        if matches!(job.work, Work::Flush { .. }) {
            // Only what was complete before this flush must be durable after it.
            if !self.dirty && self.flushing == 0 {
                return Some((job, Ok(())));
            }
            self.dirty = false;
            self.flushing += 1;
        }
        self.advance(job)
    }

    /// Gives the kernel what was begun. False when that must be tried again.
    pub fn submit(&mut self) -> io::Result<bool> {
        self.ring.as_mut().map_or(Ok(true), Ring::submit)
    }

    /// The next job that has come to its end.
    pub fn next(&mut self) -> Option<Finished> {
        loop {
            let (mut job, result) = self.ring.as_mut()?.next()?;
            let result = match result {
                // By nobody but the kernel, which found no thread for it: `pids.max` counts those too.
                Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => self.do_now(&mut job),
                result => result,
            };
            let finished = match job.completed(result) {
                Ok(()) => self.advance(job),
                Err(error) => Some(self.finish(job, Err(error))),
            };
            if finished.is_some() {
                return finished;
            }
        }
    }

    /// Waits for all that is under way and forgets it. False when that is not possible.
    pub fn reset(&mut self) -> bool {
        (self.dirty, self.flushing) = (true, 0);
        self.ring.as_mut().is_none_or(|ring| ring.finish().is_ok())
    }

    /// The ring, for another disk; nothing is under way there.
    pub fn end(&mut self) -> Option<Ring> {
        let mut ring = self.ring.take()?;
        ring.finish().is_ok().then_some(ring)
    }

    /// The operation that did not come to pass, which is still the job's next one.
    fn do_now(&mut self, job: &mut Job) -> io::Result<usize> {
        job.next(&mut *self.disk)?.map_or(Ok(0), |operation| operation.blocking())
    }

    fn advance(&mut self, mut job: Job) -> Option<Finished> {
        loop {
            let operation = match job.next(&mut *self.disk) {
                Ok(Some(operation)) => operation,
                Ok(None) => return Some(self.finish(job, Ok(()))),
                Err(error) => return Some(self.finish(job, Err(error))),
            };
            let Some(result) = self.attempt(&operation) else {
                self.ring.as_mut().expect("an attempt without one has a result").push(job, operation);
                return None;
            };
            if let Err(error) = job.completed(result) {
                return Some(self.finish(job, Err(error)));
            }
        }
    }

    /// The result, if it can be had without waiting long.
    fn attempt(&mut self, operation: &Operation) -> Option<io::Result<usize>> {
        if self.ring.is_none() {
            return Some(operation.blocking());
        }
        let What::Transfer { direction, vectors, .. } = &operation.what else { return None };
        if vectors.iter().map(|vector| vector.len()).sum::<usize>() > AT_ONCE {
            return None;
        }
        let tells = &mut self.tells[usize::from(*direction == Direction::Write)];
        if *tells {
            match operation.at_once() {
                Attempt::Done(result) => return Some(result),
                Attempt::WouldBlock => return None,
                Attempt::Unknown => *tells = false,
            }
        }
        if self.cautious > 0 {
            self.cautious -= 1;
            return None;
        }
        let began = Instant::now();
        let result = operation.blocking();
        let slow = began.elapsed() > PATIENCE;
        if slow && self.slow {
            self.cautious = CAUTIOUS;
        }
        self.slow = slow;
        Some(result)
    }

    fn finish(&mut self, job: Job, result: io::Result<()>) -> Finished {
        // A write that failed may have written a part.
        self.dirty |= job.writes();
        if matches!(job.work, Work::Flush { .. }) {
            self.flushing = self.flushing.saturating_sub(1);
            self.dirty |= result.is_err();
        }
        (job, result)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
