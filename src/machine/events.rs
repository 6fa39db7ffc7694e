//! The event loop: which descriptor belongs to which device, and the one thread that serves them all.
//!
//! Enters: descriptors to watch. Leaves: a [`Token`] for the device, until the end of the machine.
//! Must never know what a device does with its event.
//!
//! One thread for all devices: a guest of one processor rarely has two requests at once, most are answered from the
//! host's page cache in microseconds, and each further thread costs a stack, a wake-up and locks. A device that must
//! wait (vsock for a slow reader) waits by an event. Each turn gives each device a bounded amount of work.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::machine::handle::End;
use crate::machine::virtio::Token;
use crate::machine::virtio::mmio::Transport;

/// Events taken per turn; more of them wait for the next.
const BATCH: usize = 32;
/// The number in events that end the loop; devices count from 0.
const END: u32 = u32::MAX;

/// All devices, and the thread that calls them.
#[derive(Debug)]
pub(super) struct EventLoop {
    epoll: Arc<Epoll>,
    devices: Vec<Arc<Transport>>,
    end: Arc<End>,
}

impl EventLoop {
    /// A loop without devices, which ends when `end` is set.
    pub(super) fn new(end: Arc<End>) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        let event = EpollEvent::new(EventSet::IN, u64::from(END) << 32);
        epoll.ctl(ControlOperation::Add, end.event.as_raw_fd(), event)?;
        Ok(Self { epoll, devices: Vec::new(), end })
    }

    /// For the device that is added next.
    pub(super) fn watcher(&self) -> Watcher {
        let device = u32::try_from(self.devices.len()).expect("as many devices as interrupts");
        Watcher::new(Arc::clone(&self.epoll), device)
    }

    /// Adds the device that has the last watcher.
    pub(super) fn add(&mut self, device: Arc<Transport>) {
        self.devices.push(device);
    }

    /// Serves the devices until the end of the machine.
    pub(super) fn run(&self) -> io::Result<()> {
        let mut events = [EpollEvent::default(); BATCH];
        while !self.end.is_set() {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in &events[..count] {
                let (device, token) = decode(event);
                let device = usize::try_from(device).ok().and_then(|device| self.devices.get(device));
                if let Some(device) = device {
                    device.handle(token);
                }
            }
        }
        Ok(())
    }

    /// Drops all devices: their streams and files are closed.
    pub(super) fn close(&self) {
        for device in &self.devices {
            device.close();
        }
    }
}

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
