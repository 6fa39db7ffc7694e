//! What the device tree names beside the virtio devices: the serial port. The guest ends its machine by a call to the firmware,
//! which KVM is (PSCI).

use std::sync::Arc;

use super::bus::Overlap;
use super::handle::End;
use super::layout;
use super::serial::SerialPort;
use super::vcpu::Buses;

/// Puts it there.
pub(super) fn attach(buses: &mut Buses, serial: Arc<SerialPort>, _: &Arc<End>) -> Result<(), Overlap> {
    buses.mmio.insert(layout::SERIAL_PORT, SerialPort::REGISTERS, serial)
}
