//! The receive queue: frames of the tap, each read straight into as many of the guest's buffers as it needs.

use std::collections::VecDeque;

use virtio_queue::QueueT;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use super::super::limiter::Limiter;
use super::super::vector::{Vector, store};
use super::super::{Chain, DeviceError, DeviceQueue, Interrupt};
use super::tap::{Frame, Tap};
use super::transmit::timer;
use super::{HEADER, MAX_FRAME};

/// Buffers that one read takes (`IOV_MAX`).
const MAX_VECTORS: usize = 1024;
/// Where `num_buffers` is in the header (section 5.1.6).
const NUM_BUFFERS: usize = 10;
/// Frames of one turn, after which the other devices have theirs.
const FRAMES: u16 = 64;

/// What [`Receive::fill`] came back for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// No frames, no buffers, or the turn is over; an event or a kick goes on.
    AsFarAsPossible,
    /// The tap was deleted.
    TapGone,
}

/// A chain that waits for a frame.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    head: u16,
    /// Of [`Receive::vectors`].
    vectors: usize,
    bytes: usize,
}

/// The guest's buffers.
#[derive(Debug)]
pub struct Receive {
    queue: DeviceQueue,
    /// `VIRTIO_NET_F_MRG_RXBUF`: a frame may fill several chains.
    mergeable: bool,
    /// Chains taken from the queue, in order; what they have room for together.
    waiting: VecDeque<Waiting>,
    room: usize,
    /// Their buffers, one after the other.
    vectors: Vec<Vector>,
}

impl Receive {
    pub fn new(queue: DeviceQueue, mergeable: bool) -> Self {
        Self { queue, mergeable, waiting: VecDeque::new(), room: 0, vectors: Vec::new() }
    }

    /// Gives frames to the guest while there are some, and room for the longest.
    pub fn fill(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
        tap: &Tap,
        mut limiter: Option<&mut Limiter>,
    ) -> Result<Filled, DeviceError> {
        let mut left = FRAMES;
        let mut used = false;
        let filled = loop {
            if left == 0 {
                self.queue.kick_self()?;
                break Filled::AsFarAsPossible;
            }
            if !self.has_room(memory)? {
                break Filled::AsFarAsPossible;
            }
            // If it may not receive, the limiter calls again; frames wait in the tap, and are lost there.
            if !limiter.as_mut().map_or(Ok(true), |limiter| limiter.may()).map_err(timer)? {
                break Filled::AsFarAsPossible;
            }
            match tap.read(&self.vectors) {
                Ok(Frame::Bytes(bytes)) => {
                    if let Some(limiter) = &mut limiter {
                        limiter.took(u64::try_from(bytes).unwrap_or(u64::MAX));
                    }
                    self.deliver(memory, bytes)?;
                }
                Ok(Frame::None) => break Filled::AsFarAsPossible,
                Ok(Frame::Gone) => break Filled::TapGone,
                Err(source) => return Err(DeviceError::Host { what: "read from the tap", source }),
            }
            (left, used) = (left - 1, true);
        };
        if used {
            self.queue.notify(memory, interrupt)?;
        }
        Ok(filled)
    }

    /// Takes chains until the longest frame fits. False when the guest has not enough; it kicks when it adds some.
    fn has_room(&mut self, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        while !self.is_enough() {
            match self.queue.pop(memory)? {
                Some(chain) => self.take(memory, chain)?,
                None if self.queue.want_kick(memory)? => {}
                None => return Ok(false),
            }
        }
        self.queue
            .queue
            .disable_notification(memory)
            .map_err(|source| DeviceError::Queue { queue: super::RX, source })?;
        Ok(true)
    }

    /// A frame may use one chain only, unless they are mergeable.
    fn is_enough(&self) -> bool {
        if self.mergeable { self.room >= MAX_FRAME } else { !self.waiting.is_empty() }
    }

    fn take(&mut self, memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<(), DeviceError> {
        let broken = |reason| DeviceError::Chain { reason };
        let (head, first) = (chain.head_index(), self.vectors.len());
        let mut bytes = 0_usize;
        for descriptor in chain {
            let descriptor = descriptor?;
            if !descriptor.is_write_only() {
                return Err(broken("a readable buffer to receive into"));
            }
            let length = usize::try_from(descriptor.len()).map_err(|_| broken("an impossible length"))?;
            for slice in memory.get_slices(descriptor.addr(), length) {
                let slice = slice.map_err(|_| broken("a buffer outside of memory"))?;
                if self.vectors.len() == MAX_VECTORS {
                    return Err(broken("buffers too small for a frame"));
                }
                self.vectors.push(Vector::of(&slice));
            }
            bytes = bytes.saturating_add(length);
        }
        if bytes < HEADER {
            return Err(broken("a buffer too small for a header"));
        }
        self.room = self.room.saturating_add(bytes);
        self.waiting.push_back(Waiting { head, vectors: self.vectors.len() - first, bytes });
        Ok(())
    }

    /// A frame of so many bytes is in the first buffers: they go back to the guest.
    fn deliver(&mut self, memory: &GuestMemoryMmap, bytes: usize) -> Result<(), DeviceError> {
        let (mut chains, mut vectors, mut covered) = (0, 0, 0);
        for chain in &self.waiting {
            chains += 1;
            vectors += chain.vectors;
            covered += chain.bytes;
            if covered >= bytes {
                break;
            }
        }
        // The tap writes the header up to here.
        let count = u16::try_from(chains).unwrap_or(u16::MAX);
        store(&self.vectors, NUM_BUFFERS, &count.to_le_bytes());
        let mut rest = bytes;
        let used = self.waiting.drain(..chains).map(|chain| {
            let part = rest.min(chain.bytes);
            rest -= part;
            (chain.head, u32::try_from(part).unwrap_or(u32::MAX))
        });
        self.queue.push_together(memory, used)?;
        self.vectors.drain(..vectors);
        self.room -= covered;
        Ok(())
    }
}
