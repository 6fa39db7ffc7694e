//! Where everything is in an aarch64 guest: one constant per address, with the reason.
//!
//! ```text
//! 0 ─ devices ─ 1 GiB … 2 GiB ─ RAM …
//! ```

/// Begin of RAM; Linux wants it aligned to 2 MiB and the device tree says where it is.
pub const RAM_START: u64 = 0x8000_0000;
/// The device tree: aligned to 8 bytes, at most [`DEVICE_TREE_SIZE`] long (Documentation/arch/arm64/booting.rst, section 2).
pub const DEVICE_TREE: u64 = RAM_START;
/// See [`DEVICE_TREE`].
pub const DEVICE_TREE_SIZE: usize = 2 << 20;
/// The kernel, at a multiple of 2 MiB; what is below it is RAM like all other.
pub const KERNEL: u64 = RAM_START + 0x20_0000;
/// Code of the check that a processor runs at all (`boot/check_aarch64.rs`).
pub const CHECK: u64 = RAM_START;
/// Distributor of the GICv3, below the devices, and its size.
pub const GIC_DISTRIBUTOR: (u64, u64) = (0x0800_0000, 0x1_0000);
/// First redistributor, and the size of each.
pub const GIC_REDISTRIBUTORS: (u64, u64) = (0x080a_0000, 0x2_0000);
/// Register window of the first virtio device.
pub const VIRTIO_START: u64 = 0x1000_0000;
/// Size of each window.
pub const VIRTIO_WINDOW: u32 = 0x200;
/// Each read of a register is an exit: the guest has them as device memory, which would not see what is in the host's caches.
pub const REGISTERS_IN_MEMORY: bool = false;
/// Serial port: 8250 with 8-bit registers, as the device tree says.
pub const SERIAL_PORT: u64 = 0x0900_0000;
/// Shared peripheral interrupt of the serial port.
pub const SERIAL_IRQ: u32 = 4;
/// `COMMAND_LINE_SIZE` of Linux on arm64.
pub const COMMAND_LINE_SIZE: usize = 2048;
/// First shared peripheral interrupt of the virtio devices.
pub const FIRST_IRQ: u32 = 5;
/// Last shared peripheral interrupt that is given out; the GIC has room for many more.
pub const LAST_IRQ: u32 = 127;
/// No interrupt in between is another's.
pub const CLOCK_IRQ: Option<u32> = None;
/// Bits of a guest-physical address that are enough for any machine of ours. Fewer bits are fewer levels of page tables.
pub const ADDRESS_BITS: u32 = 40;
/// There is no gap: RAM is one range, and KVM refuses what is behind the end of the address space.
pub const GAP_START: u64 = 1 << ADDRESS_BITS;
/// See [`GAP_START`].
pub const GAP_END: u64 = GAP_START;
