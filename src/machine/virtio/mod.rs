//! What a virtio device is, independent of the transport that carries it.
//!
//! A device declares its queues, features and configuration; the transport (`mmio.rs`) negotiates, builds the queues
//! and hands them over in [`VirtioDevice::activate`], so a device cannot touch a queue before the driver is ready.
//! From then on the one device thread calls [`VirtioDevice::handle`] for each event; draining a queue and interrupting
//! the driver is written once, in `worker.rs`, as methods of [`DeviceQueue`].
//!
//! Source of all constants: Virtual I/O Device (VIRTIO) 1.2, OASIS; sections are named beside each use.

pub mod balloon;
pub mod block;
mod chain;
pub mod fs;
#[cfg(any(test, feature = "fuzzing"))]
pub mod hostile;
mod interrupt;
mod limiter;
pub mod mmio;
pub mod net;
pub mod rng;
#[cfg(test)]
pub(crate) mod test_support;
mod vector;
pub mod vsock;
pub mod window;
pub mod worker;

use std::io;
use std::num::Wrapping;

use thiserror::Error;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use crate::machine::events::Watcher;
pub use chain::Chain;
pub use interrupt::{ACKNOWLEDGED, Interrupt};

/// Virtio device ids (VIRTIO 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceType {
    /// Network device (section 5.1).
    Net = 1,
    /// Block device (section 5.2).
    Block = 2,
    /// Entropy device (section 5.4).
    Entropy = 4,
    /// Traditional memory balloon device (section 5.5).
    Balloon = 5,
    /// Socket device (section 5.10).
    Vsock = 19,
    /// File system device (section 5.11).
    FileSystem = 26,
}

/// One virtio device. Object-safe; the transport owns it and calls it from one thread at a time.
pub trait VirtioDevice: Send {
    /// Which kind of device the driver will see.
    fn device_type(&self) -> DeviceType;

    /// The largest size of each queue, in order; each a power of two. Their number is the device's number of queues.
    fn queue_sizes(&self) -> &'static [u16];

    /// The device's own feature bits (the transport adds `VIRTIO_F_VERSION_1`, `VIRTIO_RING_F_EVENT_IDX` and
    /// `VIRTIO_RING_F_INDIRECT_DESC`).
    fn features(&self) -> u64;

    /// The device-specific configuration space, little-endian. Where it changes by itself: [`Interrupt::config_changed`].
    fn config(&self) -> &[u8];

    /// The driver writes `data` at that offset of the configuration space. Of most devices it is read-only.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// Whether the device thread is called for the kicks. Not, when another process has the queues and polls them itself.
    fn polls_kicks(&self) -> bool {
        true
    }

    /// The driver set `DRIVER_OK`: the queues were checked and are the device's until [`Self::reset`].
    /// An error makes the transport set `DEVICE_NEEDS_RESET`.
    fn activate(&mut self, active: Active) -> Result<(), ActivateError>;

    /// Something happened. Called on the device thread, only while active.
    ///
    /// An error means that the driver broke the protocol (or the host failed in a way that has no answer in the
    /// protocol): the transport sets `DEVICE_NEEDS_RESET`, interrupts the driver and calls the device no more until it
    /// was reset. Anything that the protocol has an answer for (a bad sector, an unknown port) is not an error here.
    fn handle(&mut self, event: Token) -> Result<(), DeviceError>;

    /// The driver wrote 0 to the status register: forget the queues, close what belongs to this activation and be
    /// ready for another `activate`. False when the device cannot; it then stays in `DEVICE_NEEDS_RESET`.
    fn reset(&mut self) -> bool;
}

/// All that a device gets when the driver is ready.
#[derive(Debug)]
pub struct Active {
    /// Guest memory. Clones share the mapping; work in flight must hold one until it is done.
    pub memory: GuestMemoryMmap,
    /// The queues in the order of [`VirtioDevice::queue_sizes`]; validated, ready, event index set as negotiated.
    pub queues: Vec<DeviceQueue>,
    /// How to interrupt the driver. [`DeviceQueue`]'s methods do it for used buffers.
    pub interrupt: Interrupt,
    /// The features that both sides agreed on, the transport's included.
    pub features: u64,
    /// Adds the device's own descriptors to the event loop. The queues are watched already.
    pub watcher: Watcher,
}

/// One queue and the event by which the driver kicks it. Its methods are in `worker.rs`.
#[derive(Debug)]
pub struct DeviceQueue {
    pub(crate) queue: Queue,
    pub(crate) kick: EventFd,
    /// Chains may have tables of their own.
    indirect: bool,
    /// Used since the driver was last asked whether it wants to hear of it.
    added: Wrapping<u16>,
}

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The driver kicked the queue of this index. The kick was read already.
    Queue(u16),
    /// A descriptor that the device gave to [`Watcher::watch`] is ready.
    Source {
        /// The id it was given.
        id: u32,
        /// For what it is ready.
        events: EventSet,
    },
}

/// Why a device could not be activated.
#[derive(Debug, Error)]
pub enum ActivateError {
    /// A descriptor could not be added to the event loop.
    #[error("Cannot watch a descriptor of the {device:?} device")]
    Watch {
        /// Which device.
        device: DeviceType,
        #[source]
        /// What epoll said.
        source: io::Error,
    },
    /// The process that serves the device does not.
    #[error("The FileSystem device is not served")]
    Backend {
        #[source]
        /// Why not.
        source: fs::BackendError,
    },
    /// The host's kernel does not serve it.
    #[error("The host's kernel does not serve the {device:?} device's queues")]
    Vhost {
        /// Which device.
        device: DeviceType,
        #[source]
        /// Why not.
        source: io::Error,
    },
    /// The transport gave another number of queues than the device declared.
    #[error("The {device:?} device needs {expected} queues and got {got}")]
    Queues {
        /// Which device.
        device: DeviceType,
        /// As declared.
        expected: usize,
        /// As given.
        got: usize,
    },
}

/// Why a device gave up until the driver resets it.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The queue itself is broken: indices or addresses that the driver must not write.
    #[error("The driver broke queue {queue}")]
    Queue {
        /// Index of the queue, where known.
        queue: u16,
        #[source]
        /// What virtio-queue found.
        source: virtio_queue::Error,
    },
    /// The same, as the host's kernel found out that serves it.
    #[error("The driver broke queue {queue}, which the host's kernel serves")]
    Ring {
        /// Index of the queue.
        queue: u16,
    },
    /// A chain of buffers that has no answer in the protocol.
    #[error("The driver sent a chain that cannot be answered: {reason}")]
    Chain {
        /// Which rule was broken.
        reason: &'static str,
    },
    /// The host failed.
    #[error("Cannot {what}")]
    Host {
        /// What was attempted.
        what: &'static str,
        #[source]
        /// What the kernel said.
        source: io::Error,
    },
    /// An event for a queue or source that the device does not have, or before activation.
    #[error("Unexpected event {token:?}")]
    Unexpected {
        /// The event.
        token: Token,
    },
}
