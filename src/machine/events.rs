//! The event loop: which descriptor belongs to which device.
//!
//! Enters: descriptors to watch. Leaves: (device, [`Token`]) pairs for `virtio/worker.rs`.
//! Must never know what a device does with its event.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::machine::virtio::Token;

/// Set in the low word of an event's data when it names a device's own descriptor, not a queue.
const SOURCE: u32 = 1 << 31;

/// Lets one device add its own descriptors to the event loop; it is called back with [`Token::Source`].
///
/// A descriptor must be taken out with [`Watcher::unwatch`] *before* it is closed when a duplicate of it may live on
/// (epoll keeps watching the open file description otherwise).
#[derive(Debug, Clone)]
pub struct Watcher {
    epoll: Arc<Epoll>,
    device: u32,
}

impl Watcher {
    /// A watcher whose events are delivered to the device of that number.
    pub(crate) fn new(epoll: Arc<Epoll>, device: u32) -> Self {
        Self { epoll, device }
    }

    /// Calls the device with `Token::Source { id, events }` when `fd` is ready (level-triggered, unless
    /// `EventSet::EDGE_TRIGGERED` is asked for). `id` is the device's own choice, below 2³¹.
    pub fn watch(&self, fd: BorrowedFd<'_>, id: u32, events: EventSet) -> io::Result<()> {
        self.control(ControlOperation::Add, fd, id | SOURCE, events)
    }

    /// Changes what a watched descriptor is watched for (`EventSet::empty()` leaves only errors and hang-up).
    pub fn rewatch(&self, fd: BorrowedFd<'_>, id: u32, events: EventSet) -> io::Result<()> {
        self.control(ControlOperation::Modify, fd, id | SOURCE, events)
    }

    /// Stops watching; the descriptor stays open.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(ControlOperation::Delete, fd, 0, EventSet::empty())
    }

    /// Calls the device with `Token::Queue(index)` when the driver kicks that queue.
    pub(crate) fn watch_queue(&self, kick: BorrowedFd<'_>, index: u16) -> io::Result<()> {
        self.control(ControlOperation::Add, kick, u32::from(index), EventSet::IN)
    }

    fn control(
        &self,
        operation: ControlOperation,
        fd: BorrowedFd<'_>,
        low: u32,
        events: EventSet,
    ) -> io::Result<()> {
        let data = (u64::from(self.device) << 32) | u64::from(low);
        self.epoll.ctl(operation, fd.as_raw_fd(), EpollEvent::new(events, data))
    }
}

/// What an epoll event is about: the device's number, and what happened to it.
pub(crate) fn decode(event: &EpollEvent) -> (u32, Token) {
    let bytes = event.data().to_le_bytes();
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (low, device) = (word(0), word(4));
    let token = match u16::try_from(low) {
        Ok(queue) => Token::Queue(queue),
        Err(_) => Token::Source { id: low & !SOURCE, events: event.event_set() },
    };
    (device, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_comes_back_with_its_device_and_token() {
        let event = EpollEvent::new(EventSet::IN, (3 << 32) | 1);
        assert_eq!(decode(&event), (3, Token::Queue(1)));
        let event = EpollEvent::new(EventSet::IN, (4 << 32) | u64::from(SOURCE | 9));
        let token = Token::Source { id: 9, events: EventSet::IN };
        assert_eq!(decode(&event), (4, token));
    }
}
