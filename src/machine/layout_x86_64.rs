//! Where everything is in an x86-64 guest: one constant per address, with the reason.
//!
//! ```text
//! 0 ─ 0x500 … boot tables … 0x20000 command line … 0x9fc00 MP table ─ 1 MiB ─ RAM ─ 3 GiB ─ devices ─ 4 GiB ─ RAM …
//! ```
//!
//! The numbers below 1 MiB are free in the PC's memory map (BIOS data area ends at 0x500, EBDA begins at 0x9fc00).

/// Global descriptor table of the boot state; behind the BIOS data area.
pub const BOOT_GDT: u64 = 0x500;
/// Code and tables of the instruction check (`boot/check_x86_64.rs`), overwritten by what follows it.
pub const CHECK: u64 = 0x1000;
/// `hvm_start_info` of the PVH boot protocol, with its module list and memory map behind it.
pub const PVH_START_INFO: u64 = 0x6000;
/// `boot_params`, the zero page of the Linux 64-bit boot protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// Page tables that map the first GiB one to one, for the 64-bit entry: level 4, 3 and 2.
pub const PML4: u64 = 0x9000;
/// See [`PML4`].
pub const PDPT: u64 = 0xa000;
/// See [`PML4`].
pub const PAGE_DIRECTORY: u64 = 0xb000;
/// The kernel's command line, terminated by 0.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// `COMMAND_LINE_SIZE` of Linux on x86, its 0 included.
pub const COMMAND_LINE_SIZE: usize = 2048;
/// MP floating pointer and configuration table: the last KiB of base memory (MultiProcessor Specification 1.4, section 4,
/// place b), which ends what is announced as RAM below 1 MiB.
pub const MP_TABLE: u64 = 0x9_fc00;
/// Up to here the MP table may grow: 32 processors need 924 bytes.
pub const MP_TABLE_END: u64 = 0xa_0000;
/// RAM begins at 0.
pub const RAM_START: u64 = 0;
/// RAM above the PC's legacy area.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Begin of the gap for devices. A whole GiB, so that RAM above it can be mapped by pages of any size.
pub const GAP_START: u64 = 0xc000_0000;
/// End of the gap.
pub const GAP_END: u64 = 0x1_0000_0000;
/// Register window of the first virtio device.
pub const VIRTIO_START: u64 = 0xd000_0000;
/// Size of each window: the registers, and as much for the device's own. Eight are in a page, which the guest's first access
/// brings in.
pub const VIRTIO_WINDOW: u32 = 0x200;
/// The guest reads registers without an exit. Whatever it says of that memory's caching, the processor sees to coherence.
pub const REGISTERS_IN_MEMORY: bool = true;
/// I/O APIC (fixed by KVM).
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APIC (architectural default).
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that Intel's KVM wants for real mode; anywhere in the gap.
pub const KVM_TSS: usize = 0xfffb_d000;

/// First serial port, as on a PC.
pub const SERIAL_PORT: u64 = 0x3f8;
/// Its interrupt, as on a PC.
pub const SERIAL_IRQ: u32 = 4;
/// Reset Control Register of PC chipsets; `reboot=p` on the kernel's command line uses it.
pub const RESET_PORT: u64 = 0xcf9;
/// `RST_CPU` in the reset control register: the write that resets.
pub const RESET_CPU: u8 = 1 << 2;
/// First interrupt of the virtio devices.
pub const FIRST_IRQ: u32 = 5;
/// Last pin of KVM's I/O APIC.
pub const LAST_IRQ: u32 = 23;
/// The clock's pin on a PC, which no device has: KVM wants to hear of the end of each of its interrupts, an exit each time.
pub const CLOCK_IRQ: Option<u32> = Some(8);
