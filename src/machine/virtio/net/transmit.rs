//! The transmit queue: each chain is one frame, written to the tap from where it is.

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use super::super::limiter::Limiter;
use super::super::vector::Vector;
use super::super::worker::Served;
use super::super::{Chain, DeviceError, DeviceQueue, Interrupt};
use super::tap::Tap;
use super::{HEADER, MAX_FRAME};

/// Buffers of one frame; Linux has 19 at most.
const MAX_VECTORS: usize = 256;

/// The guest's frames.
#[derive(Debug)]
pub struct Transmit {
    queue: DeviceQueue,
    /// Of the frame at hand; kept for its memory.
    vectors: Vec<Vector>,
}

impl Transmit {
    pub fn new(queue: DeviceQueue) -> Self {
        Self { queue, vectors: Vec::new() }
    }

    /// Sends what the guest has put into the queue.
    pub fn take(
        &mut self,
        memory: &GuestMemoryMmap,
        interrupt: &Interrupt,
        tap: &Tap,
        mut limiter: Option<&mut Limiter>,
    ) -> Result<(), DeviceError> {
        let Self { queue, vectors } = self;
        // If it may not send, the limiter calls again; what is in the queue stays there.
        if !limiter.as_mut().map_or(Ok(true), |limiter| limiter.may()).map_err(timer)? {
            return Ok(());
        }
        queue.drain(memory, interrupt, |chain| {
            // The protocol has no answer for a bad frame: it is lost.
            if frame(memory, chain, vectors)? {
                tap.write(vectors);
            }
            let Some(limiter) = &mut limiter else { return Ok(Served::Now(0)) };
            let bytes: usize = vectors.iter().map(|vector| vector.len()).sum();
            limiter.took(u64::try_from(bytes).unwrap_or(u64::MAX));
            Ok(if limiter.may().map_err(timer)? { Served::Now(0) } else { Served::NowAndNoMore(0) })
        })
    }
}

pub(super) fn timer(source: std::io::Error) -> DeviceError {
    DeviceError::Host { what: "set a timer", source }
}

/// Collects a frame's buffers. False for what can't be one: a buffer to be written, outside of memory, too many of them,
/// too few bytes or too many.
fn frame(memory: &GuestMemoryMmap, chain: Chain<'_>, vectors: &mut Vec<Vector>) -> Result<bool, DeviceError> {
    vectors.clear();
    let mut bytes = 0_usize;
    for descriptor in chain {
        let descriptor = descriptor?;
        let Ok(length) = usize::try_from(descriptor.len()) else { return Ok(false) };
        bytes = bytes.saturating_add(length);
        if descriptor.is_write_only() || bytes > MAX_FRAME {
            return Ok(false);
        }
        for slice in memory.get_slices(descriptor.addr(), length) {
            match slice {
                Ok(slice) if vectors.len() < MAX_VECTORS => vectors.push(Vector::of(&slice)),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
    }
    Ok(bytes > HEADER)
}
