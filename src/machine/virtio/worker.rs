//! Kick, drain and notify, once for all devices.
//!
//! The pattern for a device: on `Token::Queue(n)` call [`DeviceQueue::drain`] for the queues it consumes as they come
//! (block, rng, vsock transmit), or [`DeviceQueue::pop`] / [`DeviceQueue::push`] / [`DeviceQueue::notify`] for a queue
//! that it fills when it has something (vsock receive).

use std::num::Wrapping;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::{Chain, DeviceError, DeviceQueue, Interrupt};

/// Bytes before the elements of both rings, and of one element of each (VIRTIO 1.2, sections 2.7.6 and 2.7.8).
const AVAIL_HEADER: u64 = 4;
const AVAIL_ELEMENT: u64 = 2;
const USED_HEADER: u64 = 4;
const USED_ELEMENT: u64 = 8;

/// The index is not known to a queue; the transport's log line names the device.
fn broken(source: virtio_queue::Error) -> DeviceError {
    DeviceError::Queue { queue: 0, source }
}

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It goes back to the driver, with so many bytes written into it.
    Now(u32),
    /// It stays with the device, which returns it by [`DeviceQueue::push`].
    Later,
    /// As `Now`, and the device takes no more: it calls [`DeviceQueue::kick_self`] when it does, or drains again.
    NowAndNoMore(u32),
    /// As `Later`, and the device can take no more: it calls [`DeviceQueue::kick_self`] when it can.
    LaterAndNoMore,
}

impl DeviceQueue {
    /// A queue that was validated, and the event of its kick, for a driver with these features.
    pub fn new(queue: Queue, kick: EventFd, features: u64) -> Self {
        let indirect = features & 1 << VIRTIO_RING_F_INDIRECT_DESC != 0;
        Self { queue, kick, indirect, added: Wrapping(0) }
    }

    /// The event of the driver's kicks, for a device that watches it itself.
    #[allow(unsafe_code)] // vmm-sys-util's EventFd has no AsFd
    pub(crate) fn kick(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the EventFd lives, from which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.kick.as_raw_fd()) }
    }

    /// Serves every chain that the driver made available, returns each that `serve` has done at once, and interrupts the
    /// driver about these once at the end if it wants that.
    ///
    /// One call serves at most as many chains as the queue is long, so that a driver that never stops cannot keep the
    /// device thread from the other devices; it then kicks itself and goes on in the next turn of the loop.
    pub fn drain<'m, F>(
        &mut self,
        memory: &'m GuestMemoryMmap,
        interrupt: &Interrupt,
        mut serve: F,
    ) -> Result<(), DeviceError>
    where
        F: FnMut(Chain<'m>) -> Result<Served, DeviceError>,
    {
        self.checked()?;
        let mut left = self.queue.size();
        let (mut used, mut full) = (false, false);
        loop {
            self.queue.disable_notification(memory).map_err(broken)?;
            while left > 0 && !full {
                let Some(chain) = self.pop(memory)? else {
                    break;
                };
                let head = chain.head_index();
                match serve(chain)? {
                    Served::Now(length) => {
                        self.push(memory, head, length)?;
                        used = true;
                    }
                    Served::NowAndNoMore(length) => {
                        self.push(memory, head, length)?;
                        (used, full) = (true, true);
                    }
                    Served::Later => {}
                    Served::LaterAndNoMore => full = true,
                }
                left -= 1;
            }
            if full {
                // No kick is wanted: the device comes back by itself.
                break;
            }
            // Chains that came between the last pop and this line are announced here, not by a kick.
            let more = self.queue.enable_notification(memory).map_err(broken)?;
            if !more {
                break;
            }
            if left == 0 {
                self.kick_self()?;
                break;
            }
        }
        if used {
            self.notify(memory, interrupt)?;
        }
        Ok(())
    }

    /// What a queue that is not ready says of itself was never checked: nothing is written there.
    fn checked(&self) -> Result<(), DeviceError> {
        if self.queue.ready() { Ok(()) } else { Err(broken(virtio_queue::Error::QueueNotReady)) }
    }

    /// The next chain that the driver made available, if any. It must be returned by [`Self::push`], or put back at
    /// once by [`Self::unpop`].
    pub fn pop<'m>(&mut self, memory: &'m GuestMemoryMmap) -> Result<Option<Chain<'m>>, DeviceError> {
        let Some(chain) = self.queue.iter(memory).map_err(broken)?.next() else { return Ok(None) };
        let table = GuestAddress(self.queue.desc_table());
        Ok(Some(Chain::new(memory, table, self.queue.size(), chain.head_index(), self.indirect)))
    }

    /// Puts the chain of the last [`Self::pop`] back.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver; `length` is the number of bytes written into it.
    pub fn push(&mut self, memory: &GuestMemoryMmap, head: u16, length: u32) -> Result<(), DeviceError> {
        self.added += 1;
        self.queue.add_used(memory, head, length).map_err(broken)
    }

    /// Returns several chains at one moment: a driver that sees the first sees all. At most as many as were popped.
    pub fn push_together(
        &mut self,
        memory: &GuestMemoryMmap,
        chains: impl ExactSizeIterator<Item = (u16, u32)>,
    ) -> Result<(), DeviceError> {
        let Some(last) = chains.len().checked_sub(1) else { return Ok(()) };
        let first = Wrapping(self.queue.next_used());
        for (at, (head, length)) in (0_u16..).zip(chains) {
            if usize::from(at) == last {
                // The index that the driver looks at is written here, behind all elements.
                self.queue.set_next_used((first + Wrapping(at)).0);
                return self.push(memory, head, length);
            }
            let place = u64::from((first + Wrapping(at)).0 % self.queue.size());
            let address = self.queue.used_ring() + USED_HEADER + place * USED_ELEMENT;
            let mut element = [0; 8];
            element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
            element[4..].copy_from_slice(&length.to_le_bytes());
            memory
                .write_slice(&element, GuestAddress(address))
                .map_err(|error| broken(virtio_queue::Error::GuestMemory(error)))?;
            self.added += 1;
        }
        Ok(())
    }

    /// Interrupts the driver about used buffers, if it wants that (event index, or always without it).
    pub fn notify(&mut self, memory: &GuestMemoryMmap, interrupt: &Interrupt) -> Result<(), DeviceError> {
        if self.wants_interrupt(memory)? {
            interrupt.used().map_err(|source| DeviceError::Host { what: "interrupt the guest", source })?;
        }
        Ok(())
    }

    /// VIRTIO 1.2, section 2.7.7.2. Not virtio-queue's own: that does not count what [`Self::push_together`] added.
    fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        let added = std::mem::take(&mut self.added);
        if !self.queue.event_idx_enabled() {
            return Ok(true);
        }
        // The elements must be visible before the driver's wish is read.
        fence(Ordering::SeqCst);
        let place = self.queue.avail_ring() + AVAIL_HEADER + AVAIL_ELEMENT * u64::from(self.queue.size());
        let wish: u16 = memory
            .load(GuestAddress(place), Ordering::Relaxed)
            .map_err(|error| broken(virtio_queue::Error::GuestMemory(error)))?;
        let now = Wrapping(self.queue.next_used());
        Ok(now - Wrapping(u16::from_le(wish)) - Wrapping(1) < added)
    }

    /// Asks the driver to kick when it adds a chain. True when there are chains already: pop again instead of waiting.
    pub fn want_kick(&mut self, memory: &GuestMemoryMmap) -> Result<bool, DeviceError> {
        self.checked()?;
        self.queue.enable_notification(memory).map_err(broken)
    }

    /// Comes back to this queue in the next turn of the event loop, as if the driver had kicked it.
    pub fn kick_self(&self) -> Result<(), DeviceError> {
        self.kick.write(1).map_err(|source| DeviceError::Host { what: "kick a queue", source })
    }
}
