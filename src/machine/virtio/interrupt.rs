//! The device's side of its interrupt line: shared by the device thread (raises), the vCPUs (read and acknowledge).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING,
    VIRTIO_MMIO_INTERRUPT_STATUS,
};
use vmm_sys_util::eventfd::EventFd;

use super::window::Window;

/// What the driver writes to `InterruptACK` at nearly every interrupt. KVM takes that write and tells nobody: the bit stays
/// set, and at the next interrupt, for whatever reason, the driver looks at its queues too.
pub const ACKNOWLEDGED: u32 = VIRTIO_MMIO_INT_VRING;

/// Interrupt line of one device; clones are the same line.
///
/// Lock-free on purpose: the driver reads the status on every interrupt, and must not wait there for a device that is in
/// the middle of a request.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Line>);

#[derive(Debug)]
struct Line {
    /// Has `InterruptStatus` and `ConfigGeneration` (VIRTIO 1.2, section 4.2.2).
    window: Window,
    /// Bound to the device's GSI by KVM_IRQFD: a write is the edge.
    irqfd: EventFd,
    /// Another process writes to `irqfd` too.
    elsewhere: AtomicBool,
}

impl Interrupt {
    /// A line that raises its interrupt by writing to `irqfd` (non-blocking), of the device with those registers.
    pub fn new(irqfd: EventFd, window: Window) -> Self {
        Self(Arc::new(Line { window, irqfd, elsewhere: AtomicBool::new(false) }))
    }

    /// The registers of the device.
    pub fn window(&self) -> &Window {
        &self.0.window
    }

    /// Tells the driver that buffers were used. Prefer [`super::DeviceQueue::notify`], which asks first whether the
    /// driver wants to hear of it.
    pub fn used(&self) -> io::Result<()> {
        self.raise(VIRTIO_MMIO_INT_VRING)
    }

    /// Tells the driver that the configuration is another now.
    pub fn config_changed(&self, config: &[u8]) -> io::Result<()> {
        self.0.window.put_config(config);
        self.status_changed()
    }

    /// Tells the driver that the device's status is another now.
    pub fn status_changed(&self) -> io::Result<()> {
        self.0.window.register(VIRTIO_MMIO_CONFIG_GENERATION).fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG)
    }

    /// The event that raises the interrupt, for another process that serves the queues. It can't set the bit that says
    /// why, so from now on this is always set: a driver may look at its queues for nothing, and must not miss one.
    pub fn raised_elsewhere(&self) -> &EventFd {
        self.0.elsewhere.store(true, Ordering::SeqCst);
        self.0
            .window
            .register(VIRTIO_MMIO_INTERRUPT_STATUS)
            .fetch_or(VIRTIO_MMIO_INT_VRING, Ordering::SeqCst);
        &self.0.irqfd
    }

    fn raise(&self, bit: u32) -> io::Result<()> {
        self.0.window.register(VIRTIO_MMIO_INTERRUPT_STATUS).fetch_or(bit, Ordering::SeqCst);
        match self.0.irqfd.write(1) {
            // The counter is full: the edge is pending already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// The `InterruptStatus` register.
    #[cfg(test)]
    pub(crate) fn status(&self) -> u32 {
        self.0.window.register(VIRTIO_MMIO_INTERRUPT_STATUS).load(Ordering::SeqCst)
    }

    /// The `InterruptACK` register was written. Not each time: see [`ACKNOWLEDGED`].
    pub(crate) fn acknowledge(&self, bits: u32) {
        let always = if self.0.elsewhere.load(Ordering::SeqCst) { VIRTIO_MMIO_INT_VRING } else { 0 };
        self.0.window.register(VIRTIO_MMIO_INTERRUPT_STATUS).fetch_and(!bits | always, Ordering::SeqCst);
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
        let event = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let interrupt = Interrupt::new(event, Window::apart().unwrap());
        interrupt.used().unwrap();
        interrupt.config_changed(&[7]).unwrap();
        assert_eq!(interrupt.status(), 3);
        let read = |offset: u32| {
            let mut data = [0; 4];
            interrupt.window().read(u64::from(offset), &mut data);
            u32::from_le_bytes(data)
        };
        assert_eq!((read(VIRTIO_MMIO_CONFIG_GENERATION), read(0x100)), (1, 7));
        interrupt.acknowledge(1);
        assert_eq!(interrupt.status(), 2);
        assert_eq!(interrupt.irqfd().read().unwrap(), 2);
        // From now on the other process's reason is always there.
        interrupt.raised_elsewhere();
        interrupt.acknowledge(3);
        assert_eq!(interrupt.status(), 1);
    }
}
