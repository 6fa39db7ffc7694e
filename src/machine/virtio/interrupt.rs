//! The device's side of its interrupt line: shared by the device thread (raises), the vCPUs (read and acknowledge).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

/// Interrupt line of one device; clones are the same line.
///
/// Lock-free on purpose: the driver reads and acknowledges the status on every interrupt, and must not wait there for
/// a device that is in the middle of a request.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Line>);

#[derive(Debug)]
struct Line {
    /// `InterruptStatus` (VIRTIO 1.2, section 4.2.2).
    status: AtomicU32,
    /// `ConfigGeneration` (section 4.2.2).
    generation: AtomicU32,
    /// Bound to the device's GSI by KVM_IRQFD: a write is the edge.
    irqfd: EventFd,
    /// Another process writes to `irqfd` too.
    elsewhere: AtomicBool,
}

impl Interrupt {
    /// A line that raises its interrupt by writing to `irqfd` (non-blocking).
    pub fn new(irqfd: EventFd) -> Self {
        let (status, generation) = (AtomicU32::new(0), AtomicU32::new(0));
        Self(Arc::new(Line { status, generation, irqfd, elsewhere: AtomicBool::new(false) }))
    }

    /// Tells the driver that buffers were used. Prefer [`super::DeviceQueue::notify`], which asks first whether the
    /// driver wants to hear of it.
    pub fn used(&self) -> io::Result<()> {
        self.raise(VIRTIO_MMIO_INT_VRING)
    }

    /// Tells the driver that the configuration (or the device's status) changed.
    pub fn config_changed(&self) -> io::Result<()> {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG)
    }

    /// The event that raises the interrupt, for another process that serves the queues. It can't set the bit that says
    /// why, so from now on this is always set: a driver may look at its queues for nothing, and must not miss one.
    pub fn raised_elsewhere(&self) -> &EventFd {
        self.0.elsewhere.store(true, Ordering::SeqCst);
        &self.0.irqfd
    }

    fn raise(&self, bit: u32) -> io::Result<()> {
        self.0.status.fetch_or(bit, Ordering::SeqCst);
        match self.0.irqfd.write(1) {
            // The counter is full: the edge is pending already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// The `InterruptStatus` register.
    pub(crate) fn status(&self) -> u32 {
        let always = if self.0.elsewhere.load(Ordering::SeqCst) { VIRTIO_MMIO_INT_VRING } else { 0 };
        self.0.status.load(Ordering::SeqCst) | always
    }

    /// The `InterruptACK` register was written.
    pub(crate) fn acknowledge(&self, bits: u32) {
        self.0.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// The `ConfigGeneration` register.
    pub(crate) fn generation(&self) -> u32 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// The eventfd that carries the edges.
    #[cfg(test)]
    pub(crate) fn irqfd(&self) -> &EventFd {
        &self.0.irqfd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_keeps_a_bit_until_it_is_acknowledged() {
        let interrupt = Interrupt::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        interrupt.used().unwrap();
        interrupt.config_changed().unwrap();
        assert_eq!(interrupt.status(), 3);
        assert_eq!(interrupt.generation(), 1);
        interrupt.acknowledge(1);
        assert_eq!(interrupt.status(), 2);
        assert_eq!(interrupt.irqfd().read().unwrap(), 2);
    }
}
