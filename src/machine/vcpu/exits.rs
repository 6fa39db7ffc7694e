//! The one match on why a processor came back.

use kvm_ioctls::VcpuExit;

use super::VcpuError;
use crate::machine::bus::Bus;
use crate::machine::handle::Ended;

/// `KVM_SYSTEM_EVENT_SHUTDOWN`, `_RESET` and `_CRASH` (Documentation/virt/kvm/api.rst, section 5).
const EVENT_SHUTDOWN: u32 = 1;
/// See [`EVENT_SHUTDOWN`].
const EVENT_RESET: u32 = 2;
/// See [`EVENT_SHUTDOWN`].
const EVENT_CRASH: u32 = 3;

/// The address spaces of the machine.
#[derive(Debug, Default)]
pub struct Buses {
    /// Memory-mapped devices.
    pub mmio: Bus,
    /// x86 ports.
    pub ports: Bus,
}

/// Serves the exit. `Some` when the machine is at its end.
pub(super) fn serve(exit: VcpuExit<'_>, buses: &Buses) -> Option<Result<Ended, VcpuError>> {
    match exit {
        VcpuExit::MmioRead(address, data) => buses.mmio.read(address, data),
        VcpuExit::MmioWrite(address, data) => buses.mmio.write(address, data),
        VcpuExit::IoIn(port, data) => buses.ports.read(u64::from(port), data),
        VcpuExit::IoOut(port, data) => buses.ports.write(u64::from(port), data),
        VcpuExit::Shutdown => return Some(Ok(Ended::TripleFault)),
        VcpuExit::SystemEvent(EVENT_SHUTDOWN | EVENT_RESET, _) => return Some(Ok(Ended::ShutDown)),
        VcpuExit::SystemEvent(EVENT_CRASH, _) => return Some(Ok(Ended::GuestPanic)),
        VcpuExit::FailEntry(reason, _) => return Some(Err(VcpuError::Entry { reason })),
        VcpuExit::InternalError => return Some(Err(VcpuError::Internal)),
        // Came back for nothing, or for something that the loop looks at anyway.
        VcpuExit::Intr | VcpuExit::Hlt | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr => {}
        other => return Some(Err(VcpuError::Unexpected { exit: format!("{other:?}") })),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_accesses_read_ones_and_go_on() {
        let buses = Buses::default();
        let mut data = [0; 4];
        assert!(serve(VcpuExit::MmioRead(0xd000_0000, &mut data), &buses).is_none());
        assert_eq!(data, [0xff; 4]);
        let mut data = [0; 1];
        assert!(serve(VcpuExit::IoIn(0x64, &mut data), &buses).is_none());
        assert_eq!(data, [0xff]);
        assert!(serve(VcpuExit::IoOut(0x64, &[0xfe]), &buses).is_none());
    }

    #[test]
    fn ends_are_told_apart() {
        let buses = Buses::default();
        let end = |exit| serve(exit, &buses);
        assert!(matches!(end(VcpuExit::Shutdown), Some(Ok(Ended::TripleFault))));
        assert!(matches!(end(VcpuExit::SystemEvent(EVENT_RESET, &[])), Some(Ok(Ended::ShutDown))));
        assert!(matches!(end(VcpuExit::SystemEvent(EVENT_CRASH, &[])), Some(Ok(Ended::GuestPanic))));
        assert!(matches!(end(VcpuExit::InternalError), Some(Err(VcpuError::Internal))));
        assert!(matches!(end(VcpuExit::FailEntry(7, 0)), Some(Err(VcpuError::Entry { reason: 7 }))));
    }
}
