//! The socket device: streams between ports of the guest and unix sockets of this process (VIRTIO 1.2, section 5.10).
//!
//! Enters: packets of the guest, streams through a [`VsockHandle`]. Leaves: the same bytes on the other side; streams
//! that the guest opened, to the [`Listeners`] of their ports. Must never know what the streams carry.
//!
//! ```text
//!  guest ── tx queue ──▶ packet::parse ──▶ mux ──▶ connection ──▶ unix socket (─▶ backlog while its reader is slow)
//!  guest ◀── rx queue ── packet::Room ◀── mux ◀── connection ◀── unix socket (only while the guest has credit)
//! ```
//!
//! A byte goes straight from the socket into the guest's buffer, and from the guest's buffer into the socket. What was
//! taken from the guest is written even when the guest closes; it is in our memory then, so whoever ends the process
//! must first have seen the end of the streams that he cares for.
//!
//! Writing relies on `SIGPIPE` being ignored, as Rust's runtime leaves it.

mod backlog;
mod connection;
mod handle;
mod header;
mod mux;
mod packet;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use thiserror::Error;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use self::handle::Inbox;
pub use self::handle::{ConnectError, VsockHandle};
use self::header::GUEST_CID;
use self::mux::{FIRST_ID, Mux};
pub use self::mux::{Listener, Listeners};
use self::packet::Room;
use super::{ActivateError, Active, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice};
use crate::machine::events::Watcher;

/// Queue indices (section 5.10.2).
const RX: u16 = 0;
const TX: u16 = 1;
const EVENT: u16 = 2;
/// Sizes of the queues. Linux gives a buffer to each place of the first, of 16 KiB by an edit of ours
/// (`integration/src/kernel/config.rs`), and eight to the last.
const QUEUE_SIZES: &[u16] = &[32, 128, 8];
/// How often the receive queue may be filled anew in one turn, so that other devices have theirs.
const ROUNDS: u16 = 4;
/// Event id of the inbox; sockets have those above.
const INBOX: u32 = 0;
/// Why the device could not be made.
#[derive(Debug, Error)]
pub enum VsockError {
    /// No descriptor to be had.
    #[error("Cannot create the vsock device's event descriptor")]
    EventFd(#[source] io::Error),
}

/// The socket device.
#[derive(Debug)]
pub struct Vsock {
    /// `guest_cid` (section 5.10.4), little-endian.
    config: [u8; 8],
    inbox: Arc<Inbox>,
    listeners: Listeners,
    /// Event id of the next socket.
    next_id: u32,
    running: Option<Running>,
}

impl Vsock {
    /// A device whose guest may open streams to the ports that `listeners` has.
    pub fn new(listeners: Listeners) -> Result<(Self, VsockHandle), VsockError> {
        let (handle, inbox) = VsockHandle::new().map_err(VsockError::EventFd)?;
        let device =
            Self { config: GUEST_CID.to_le_bytes(), inbox, listeners, next_id: FIRST_ID, running: None };
        Ok((device, handle))
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    /// None: streams are what a device without features has (section 5.10.3).
    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let device = DeviceType::Vsock;
        let Active { memory, queues, interrupt, watcher, .. } = active;
        let [rx, tx, _event] = <[DeviceQueue; 3]>::try_from(queues).map_err(|queues| {
            ActivateError::Queues { device, expected: QUEUE_SIZES.len(), got: queues.len() }
        })?;
        watcher
            .watch(self.inbox.fd(), INBOX, EventSet::IN)
            .map_err(|source| ActivateError::Watch { device, source })?;
        let mux = Mux::new(watcher.clone(), self.listeners.clone(), self.next_id);
        self.running = Some(Running { mux, memory, rx, tx, tx_waits: false, interrupt, watcher });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let Some(running) = self.running.as_mut() else {
            return match event {
                // It was on its way when the device was reset.
                Token::Source { .. } => Ok(()),
                Token::Queue(_) => Err(DeviceError::Unexpected { token: event }),
            };
        };
        match event {
            // Nothing to say on the event queue: the guest never moves to another host.
            Token::Queue(EVENT) | Token::Queue(RX) => {}
            Token::Queue(TX) => running.take_packets()?,
            Token::Source { id: INBOX, .. } => {
                for (port, stream) in self.inbox.take() {
                    running.mux.connect(port, stream);
                }
            }
            Token::Source { id, events } => running.mux.socket_ready(id, events),
            Token::Queue(_) => return Err(DeviceError::Unexpected { token: event }),
        }
        running.give_packets()
    }

    fn reset(&mut self) -> bool {
        if let Some(running) = self.running.take() {
            self.next_id = running.mux.next_id();
            // It is watched again at the next activation, and cannot be unwatched only if it is not watched.
            let _ = running.watcher.unwatch(self.inbox.fd());
        }
        true
    }
}

/// What exists between activation and reset.
#[derive(Debug)]
struct Running {
    mux: Mux,
    memory: GuestMemoryMmap,
    rx: DeviceQueue,
    tx: DeviceQueue,
    /// Packets of the guest are left unread until it takes what it is owed.
    tx_waits: bool,
    interrupt: Interrupt,
    watcher: Watcher,
}

impl Running {
    /// Reads the guest's packets, at most a queue full of them.
    fn take_packets(&mut self) -> Result<(), DeviceError> {
        let memory = &self.memory;
        let mut left = self.tx.queue.size();
        let mut used = false;
        self.tx_waits = false;
        loop {
            self.tx
                .queue
                .disable_notification(memory)
                .map_err(|source| DeviceError::Queue { queue: TX, source })?;
            while left > 0 && !self.mux.congested() {
                let Some(chain) = self.tx.pop(memory)? else {
                    break;
                };
                let head = chain.head_index();
                self.mux.receive(packet::parse(memory, chain)?);
                self.tx.push(memory, head, 0)?;
                used = true;
                left -= 1;
            }
            if self.mux.congested() {
                self.tx_waits = true;
                break;
            }
            if left == 0 {
                self.tx.kick_self()?;
                break;
            }
            if !self.tx.want_kick(memory)? {
                break;
            }
        }
        if used {
            self.tx.notify(memory, &self.interrupt)?;
        }
        Ok(())
    }

    /// Fills the guest's receive buffers while there is something for it.
    fn give_packets(&mut self) -> Result<(), DeviceError> {
        let memory = &self.memory;
        let mut left = self.rx.queue.size().saturating_mul(ROUNDS);
        let mut used = false;
        while self.mux.wants_room() {
            let Some(chain) = self.rx.pop(memory)? else {
                // Buffers that come later are announced by a kick, those that came just now are taken here.
                if self.rx.want_kick(memory)? {
                    continue;
                }
                break;
            };
            if left == 0 {
                self.rx.unpop();
                self.rx.kick_self()?;
                break;
            }
            left -= 1;
            let head = chain.head_index();
            let length = match Room::parse(memory, chain)? {
                Some(room) => match self.mux.transmit(room.payload()) {
                    Some(header) => room.finish(&header),
                    None => {
                        self.rx.unpop();
                        break;
                    }
                },
                // Too small a buffer is given back unused.
                None => 0,
            };
            self.rx.push(memory, head, length)?;
            used = true;
        }
        if used {
            self.rx.notify(memory, &self.interrupt)?;
        }
        if self.tx_waits && !self.mux.congested() {
            self.tx.kick_self()?;
        }
        Ok(())
    }
}
