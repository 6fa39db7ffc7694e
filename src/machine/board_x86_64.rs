//! What a PC has where software expects it: the serial port, and the port by which the guest ends its machine. Reboot and
//! panic both write there (`reboot=p`).
//!
//! A triple fault, which other machines take for a reboot, is thereby always a fault.

use std::sync::Arc;

use super::bus::{BusDevice, Overlap};
use super::handle::{End, Ended};
use super::layout;
use super::serial::SerialPort;
use super::vcpu::Buses;

/// Puts them there.
pub(super) fn attach(buses: &mut Buses, serial: Arc<SerialPort>, end: &Arc<End>) -> Result<(), Overlap> {
    buses.ports.insert(layout::SERIAL_PORT, SerialPort::REGISTERS, serial)?;
    buses.ports.insert(layout::RESET_PORT, 1, Arc::new(ResetPort(Arc::clone(end))))
}

/// The Reset Control Register of PC chipsets (Intel ICH datasheet, `RST_CNT`).
#[derive(Debug)]
struct ResetPort(Arc<End>);

impl BusDevice for ResetPort {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: u64, data: &[u8]) {
        if data.first().is_some_and(|byte| byte & layout::RESET_CPU != 0) {
            self.0.set(Ok(Ended::ShutDown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_bit_ends_the_machine() {
        let end = Arc::new(End::new().unwrap());
        let port = ResetPort(Arc::clone(&end));
        port.write(0, &[2]);
        assert!(!end.is_set());
        port.write(0, &[6]);
        assert!(matches!(end.take(), Some(Ok(Ended::ShutDown))));
    }
}
