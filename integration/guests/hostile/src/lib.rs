//! What a guest does that wants out: every device is driven as no driver would, at random and while it works.
//!
//! Enters: the command line, on which the devices' registers are, and [`Memory`], which is the guest's own and the registers.
//! Leaves: [`Seen`] of each device, and a machine that has been asked for everything that it must refuse. Nothing here knows
//! of the host: `kernel.rs` is what really runs on a processor, and the tests have memory of their own.
//!
//! `src/machine/virtio/hostile` does the like to each device in the VMM's own tests, with more turns and with AddressSanitizer.
//! This one is behind KVM: the device's threads are under their filters, vhost-net and virtiofsd are the real ones.

#![cfg_attr(not(test), no_std)]

pub mod ask;
pub mod attack;
pub mod devices;
pub mod random;
pub mod registers;

/// The guest's memory and the devices' registers, both by guest-physical addresses.
pub trait Memory {
    /// `width` bytes (1, 2, 4 or 8) at `address`.
    fn read(&mut self, address: u64, width: u8) -> u64;
    /// Writes the low `width` bytes (1, 2, 4 or 8) of `value`.
    fn write(&mut self, address: u64, width: u8, value: u64);
}
