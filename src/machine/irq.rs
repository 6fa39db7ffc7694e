//! Interrupt lines: who has which, and the eventfds that raise them inside KVM.
//!
//! The interrupt controllers are KVM's own (PIC, I/O APIC, local APICs). A split irqchip, with the I/O APIC here, would
//! take two device models out of the kernel and be made in 1 µs instead of 88; but the start of one container makes 646
//! accesses to the I/O APIC's registers, each of which would then be an exit to this process, 5 µs (instructions counted
//! as nanoseconds, under AMD's SVM).

use kvm_ioctls::VmFd;
use thiserror::Error;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::layout;

/// Lines that devices can have.
const COUNT: u32 = layout::LAST_IRQ - layout::FIRST_IRQ + if layout::CLOCK_IRQ.is_some() { 0 } else { 1 };

/// Why there is no interrupt line.
#[derive(Debug, Error)]
pub enum IrqError {
    /// More devices than pins.
    #[error("The machine has too many devices: only {COUNT} have an interrupt; attach fewer disks")]
    None,
    /// No descriptor to be had.
    #[error("Cannot create an event descriptor for interrupt {irq}")]
    EventFd {
        /// The line.
        irq: u32,
        #[source]
        /// Why not.
        source: std::io::Error,
    },
    /// KVM_IRQFD failed.
    #[error("KVM does not bind interrupt {irq}")]
    Bind {
        /// The line.
        irq: u32,
        #[source]
        /// KVM's errno.
        source: kvm_ioctls::Error,
    },
}

/// Gives out the lines of the virtio devices, in order.
#[derive(Debug)]
pub struct Lines {
    next: u32,
}

impl Lines {
    /// All lines are free.
    pub fn new() -> Self {
        Self { next: layout::FIRST_IRQ }
    }

    /// The next free line.
    pub fn take(&mut self) -> Result<u32, IrqError> {
        let irq = if layout::CLOCK_IRQ == Some(self.next) { self.next + 1 } else { self.next };
        if irq > layout::LAST_IRQ {
            return Err(IrqError::None);
        }
        self.next = irq + 1;
        Ok(irq)
    }
}

/// One line that several devices have together.
///
/// They have one event as well, so that KVM makes one edge after the other of what they write: of two events of one line it
/// may take two edges that overlap for one, and the guest would have seen only the first device's reason.
#[derive(Debug)]
pub struct Shared {
    /// The line.
    pub irq: u32,
    event: EventFd,
}

impl Shared {
    /// The event, for one more device.
    pub fn event(&self) -> Result<EventFd, IrqError> {
        let irq = self.irq;
        self.event.try_clone().map_err(|source| IrqError::EventFd { irq, source })
    }
}

impl Lines {
    /// All lines that are left, at most `count`; at least one.
    pub fn share(&mut self, vm: &VmFd, count: usize) -> Result<Vec<Shared>, IrqError> {
        let mut shared = Vec::new();
        while shared.len() < count {
            match self.take() {
                Ok(irq) => shared.push(Shared { irq, event: bind(vm, irq)? }),
                Err(IrqError::None) if !shared.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(shared)
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

/// An eventfd whose write is an edge on that line.
pub fn bind(vm: &VmFd, irq: u32) -> Result<EventFd, IrqError> {
    let event =
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| IrqError::EventFd { irq, source })?;
    vm.register_irqfd(&event, irq).map_err(|source| IrqError::Bind { irq, source })?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end() {
        let mut lines = Lines::new();
        let all = std::iter::from_fn(|| lines.take().ok()).collect::<Vec<_>>();
        let pins = layout::FIRST_IRQ..=layout::LAST_IRQ;
        assert_eq!(all, pins.filter(|irq| layout::CLOCK_IRQ != Some(*irq)).collect::<Vec<_>>());
        assert_eq!(all.len(), usize::try_from(COUNT).unwrap());
        assert!(matches!(lines.take(), Err(IrqError::None)));
    }
}
