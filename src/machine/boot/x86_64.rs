//! The state in which an x86-64 kernel is entered: tables in memory and the registers of the first processor.
//!
//! Two protocols: Xen PVH (xen/include/public/arch-x86/hvm/start_info.h; 32-bit protected mode, no paging) when the
//! kernel has the note, else the Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst).

use std::ops::Range;

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::kernel::Entry;
use super::{Boot, check, mptable};
use crate::machine::kvm::KvmProblem;
use crate::machine::layout;

/// Guest memory is smaller than the constants of the layout.
pub type WriteError = vm_memory::GuestMemoryError;

/// `XEN_HVM_START_MAGIC_VALUE`.
const HVM_MAGIC: u32 = 0x336e_c578;
/// `E820_TYPE_RAM`, and the same number in `hvm_memmap_table_entry.type`.
const RAM: u32 = 1;
/// `E820_TYPE_RESERVED`.
const RESERVED: u32 = 2;
/// Selectors of the boot GDT; Linux demands these two for its 64-bit entry (`__BOOT_CS`, `__BOOT_DS`).
const CODE: u16 = 0x10;
/// See [`CODE`].
const DATA: u16 = 0x18;
/// Task state; the processor wants one, nobody uses it.
const TASK: u16 = 0x20;

/// Registers of the first processor.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    regs: kvm_regs,
    long_mode: bool,
}

/// Writes the boot tables; returns how the first processor is to be started.
pub fn prepare(memory: &GuestMemoryMmap, boot: &Boot<'_>) -> Result<Start, WriteError> {
    // The devices are on the command line.
    let Boot { kernel, initramfs, command_line, processors, devices: _ } = boot;
    let mut line = command_line.as_bytes().to_vec();
    line.push(0);
    memory.write_slice(&line, GuestAddress(layout::COMMAND_LINE))?;
    memory.write_slice(&mptable::build(*processors), GuestAddress(layout::MP_TABLE))?;
    let map = memory_map(memory);
    // Bit 1 is always set (Intel SDM volume 1, section 3.4.3); interrupts are off.
    let mut regs = kvm_regs { rflags: 2, ..Default::default() };
    let long_mode = match kernel.entry {
        Entry::Pvh(entry) => {
            memory.write_slice(&start_info(&map, initramfs), GuestAddress(layout::PVH_START_INFO))?;
            write_gdt(memory, layout::BOOT_GDT, false)?;
            (regs.rip, regs.rbx) = (entry, layout::PVH_START_INFO);
            false
        }
        Entry::Direct64(entry) => {
            memory.write_slice(&zero_page(&map, initramfs), GuestAddress(layout::ZERO_PAGE))?;
            write_gdt(memory, layout::BOOT_GDT, true)?;
            write_page_tables(memory)?;
            (regs.rip, regs.rsi) = (entry, layout::ZERO_PAGE);
            true
        }
    };
    check::prepare(memory)?;
    Ok(Start { regs, long_mode })
}

impl Start {
    /// Puts the first processor there, once it has shown that it runs a kernel's instructions ([`check`]).
    pub fn apply(&self, processor: &mut VcpuFd) -> Result<(), KvmProblem> {
        check::run(processor)?;
        set_mode(processor, self.long_mode)?;
        processor.set_regs(&self.regs).map_err(KvmProblem::refused("set a processor's registers"))
    }
}

/// What is RAM, for the kernel: (start, size, type).
fn memory_map(memory: &GuestMemoryMmap) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, layout::MP_TABLE, RAM),
        (layout::MP_TABLE, layout::HIGH_MEMORY - layout::MP_TABLE, RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().raw_value();
        let from = start.max(layout::HIGH_MEMORY);
        map.push((from, region.len() - (from - start), RAM));
    }
    map
}

/// `hvm_start_info`, `hvm_modlist_entry` and the memory map, one behind the other.
fn start_info(map: &[(u64, u64, u32)], initramfs: &Range<u64>) -> Vec<u8> {
    const MODULES: u64 = layout::PVH_START_INFO + 56;
    const MEMORY_MAP: u64 = MODULES + 32;
    let entries = u32::try_from(map.len()).expect("a handful of ranges");
    let mut bytes = Vec::new();
    let mut put = |value: &[u8]| bytes.extend_from_slice(value);
    for word in [HVM_MAGIC, 1, 0, 1] {
        put(&word.to_le_bytes()); // magic, version, flags, nr_modules
    }
    for long in [MODULES, layout::COMMAND_LINE, 0, MEMORY_MAP] {
        put(&long.to_le_bytes()); // modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr
    }
    put(&entries.to_le_bytes());
    put(&[0; 4]);
    for long in [initramfs.start, initramfs.end - initramfs.start, 0, 0] {
        put(&long.to_le_bytes()); // paddr, size, cmdline_paddr, reserved
    }
    for (start, size, kind) in map {
        put(&start.to_le_bytes());
        put(&size.to_le_bytes());
        put(&kind.to_le_bytes());
        put(&[0; 4]);
    }
    bytes
}

/// `struct boot_params`; offsets as in zero-page.rst and boot.rst.
fn zero_page(map: &[(u64, u64, u32)], initramfs: &Range<u64>) -> Vec<u8> {
    let word = |value: u64| u32::try_from(value).expect("below the gap for devices").to_le_bytes();
    let mut page = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| page[at..at + value.len()].copy_from_slice(value);
    put(0x1e8, &[u8::try_from(map.len()).expect("a handful of ranges")]); // e820_entries
    put(0x1fe, &0xaa55_u16.to_le_bytes()); // boot_flag
    put(0x202, b"HdrS"); // header
    put(0x206, &0x020f_u16.to_le_bytes()); // version
    put(0x210, &[0xff]); // type_of_loader: not one of the registered
    put(0x218, &word(initramfs.start)); // ramdisk_image
    put(0x21c, &word(initramfs.end - initramfs.start)); // ramdisk_size
    put(0x228, &word(layout::COMMAND_LINE)); // cmd_line_ptr
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    for (index, (start, size, kind)) in map.iter().enumerate() {
        let at = 0x2d0 + index * 20; // e820_table
        put(at, &start.to_le_bytes());
        put(at + 8, &size.to_le_bytes());
        put(at + 16, &kind.to_le_bytes());
    }
    page
}

/// A segment descriptor as the processor caches it. `kind` is the type field (Intel SDM volume 3, section 3.4.5).
fn segment(selector: u16, kind: u8, long: bool) -> kvm_segment {
    let system = selector == TASK;
    kvm_segment {
        base: 0,
        limit: if system { 0x67 } else { u32::MAX },
        selector,
        type_: kind,
        present: 1,
        s: u8::from(!system),
        g: u8::from(!system),
        l: u8::from(long && selector == CODE),
        db: u8::from(selector == DATA || (selector == CODE && !long)),
        ..Default::default()
    }
}

fn segments(long: bool) -> [kvm_segment; 3] {
    // Execute/read and accessed; read/write and accessed; busy task state.
    [segment(CODE, 0xb, long), segment(DATA, 0x3, long), segment(TASK, 0xb, long)]
}

/// The same descriptors in memory, for whoever reloads a segment before he has tables of his own.
pub(super) fn write_gdt(memory: &GuestMemoryMmap, address: u64, long: bool) -> Result<(), WriteError> {
    let mut table = [0_u64; 5];
    for segment in segments(long) {
        let limit = u64::from(if segment.g == 1 { segment.limit >> 12 } else { segment.limit });
        table[usize::from(segment.selector / 8)] = limit & 0xffff
            | u64::from(segment.type_) << 40
            | u64::from(segment.s) << 44
            | u64::from(segment.present) << 47
            | (limit >> 16) << 48
            | u64::from(segment.l) << 53
            | u64::from(segment.db) << 54
            | u64::from(segment.g) << 55;
    }
    let bytes = table.iter().flat_map(|entry| entry.to_le_bytes()).collect::<Vec<_>>();
    memory.write_slice(&bytes, GuestAddress(address))
}

/// The first GiB one to one, by pages of 2 MiB.
pub(super) fn write_page_tables(memory: &GuestMemoryMmap) -> Result<(), WriteError> {
    // Present and writable; bit 7: a page, not a table (Intel SDM volume 3, table 4-17).
    memory.write_obj(layout::PDPT | 3, GuestAddress(layout::PML4))?;
    memory.write_obj(layout::PAGE_DIRECTORY | 3, GuestAddress(layout::PDPT))?;
    let directory = (0..512_u64).flat_map(|index| (index << 21 | 0x83).to_le_bytes()).collect::<Vec<_>>();
    memory.write_slice(&directory, GuestAddress(layout::PAGE_DIRECTORY))
}

/// Puts a processor into 32-bit protected mode without paging, or into 64-bit mode on the boot page tables.
pub(super) fn set_mode(processor: &VcpuFd, long: bool) -> Result<(), KvmProblem> {
    // CR0.PE, ET; CR0.PG; CR4.PAE; EFER.LME and LMA.
    const PROTECTED: u64 = 1 | 1 << 4;
    const PAGING: u64 = 1 << 31;
    const PAE: u64 = 1 << 5;
    const LONG: u64 = 1 << 8 | 1 << 10;
    let mut sregs: kvm_sregs =
        processor.get_sregs().map_err(KvmProblem::refused("read a processor's registers"))?;
    let [code, data, task] = segments(long);
    (sregs.cs, sregs.tr) = (code, task);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    (sregs.gdt.base, sregs.gdt.limit) = (layout::BOOT_GDT, 5 * 8 - 1);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) =
        if long { (PROTECTED | PAGING, layout::PML4, PAE, LONG) } else { (PROTECTED, 0, 0, 0) };
    processor.set_sregs(&sregs).map_err(KvmProblem::refused("set a processor's mode"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::memory::{Backing, reserve};

    #[test]
    fn memory_map_covers_ram_and_spares_the_mp_table() {
        let memory = reserve(4096, Backing::Anonymous).unwrap();
        assert_eq!(
            memory_map(&memory),
            [
                (0, 0x9_fc00, RAM),
                (0x9_fc00, 0x6_0400, RESERVED),
                (0x10_0000, 0xbff0_0000, RAM),
                (0x1_0000_0000, 0x4000_0000, RAM)
            ]
        );
    }

    #[test]
    fn start_info_points_at_what_follows_it() {
        let info = start_info(&[(0, 0x1000, RAM)], &(0x200_0000..0x200_1234));
        let long = |at: usize| u64::from_le_bytes(info[at..at + 8].try_into().unwrap());
        let at = |address: u64| usize::try_from(address - layout::PVH_START_INFO).unwrap();
        assert_eq!(&info[..4], &HVM_MAGIC.to_le_bytes());
        assert_eq!((long(at(long(16))), long(at(long(16)) + 8)), (0x200_0000, 0x1234));
        assert_eq!(long(24), layout::COMMAND_LINE);
        assert_eq!((long(at(long(40)) + 8), info.len()), (0x1000, at(long(40)) + 24));
    }

    #[test]
    fn gdt_has_the_descriptors_of_the_boot_protocol() {
        let memory = reserve(64, Backing::Anonymous).unwrap();
        write_gdt(&memory, layout::BOOT_GDT, true).unwrap();
        let entry = |selector: u16| {
            memory.read_obj::<u64>(GuestAddress(layout::BOOT_GDT + u64::from(selector))).unwrap()
        };
        assert_eq!((entry(0), entry(CODE), entry(DATA)), (0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff));
        write_gdt(&memory, layout::BOOT_GDT, false).unwrap();
        assert_eq!(entry(CODE), 0x00cf_9b00_0000_ffff);
    }

    #[test]
    fn zero_page_has_its_marks() {
        let page = zero_page(&[(0, 0x1000, RAM), (0x10_0000, 0x2000, RAM)], &(0x200_0000..0x200_0010));
        assert_eq!((&page[0x1fe..0x206], page[0x1e8]), (&b"\x55\xaa\0\0HdrS"[..], 2));
        assert_eq!(&page[0x2d0 + 20..0x2d0 + 28], &0x10_0000_u64.to_le_bytes());
    }
}
