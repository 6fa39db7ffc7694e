//! The kernel as an ELF file, read to where it is linked.
//!
//! Read, not mapped and copied: the kernel's own copy into our huge pages costs 6.3 million instructions for 12 MB (3.9
//! of them clear the pages), with a mapping it is 8.2 to 10.7 for the faults and the unmapping.

use std::fs::File;
use std::os::unix::fs::FileExt;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::file::FileProblem;
use super::kernel::{Entry, Kernel, KernelProblem, number};
use crate::machine::layout;

/// `e_machine` of x86-64 (System V ABI, ELF header).
const MACHINE: u16 = 62;

/// What a kernel is called here.
pub(super) const NAME: &str = "vmlinux";
/// Where it has which bytes (System V ABI, ELF header).
pub const MAGIC: (u16, &[u8]) = (0, b"\x7fELF");

/// Copies the kernel, of `length` bytes, into guest memory.
pub(super) fn load(memory: &GuestMemoryMmap, mut file: File, length: u64) -> Result<Kernel, KernelProblem> {
    check(&file, length, memory)?;
    let loaded = Elf::load(memory, None, &mut file, Some(GuestAddress(layout::HIGH_MEMORY)))
        .map_err(KernelProblem::Loader)?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(entry) => Entry::Pvh(entry.raw_value()),
        _ => Entry::Direct64(loaded.kernel_load.raw_value()),
    };
    Ok(Kernel { entry, end: loaded.kernel_end })
}

/// Checks what the loader would only call a failed read: the kind of file, and that each part is in the file and in
/// guest memory.
fn check(file: &File, length: u64, memory: &GuestMemoryMmap) -> Result<(), KernelProblem> {
    let foreign = |what| KernelProblem::Foreign { what };
    let truncated = |needed| KernelProblem::Truncated { needed, length };
    let mut header = [0; 64];
    let read = file.read_at(&mut header, 0).map_err(FileProblem::from)?;
    if !header.starts_with(MAGIC.1) {
        return Err(foreign("not an ELF file (a compressed bzImage?)"));
    }
    if read < header.len() {
        return Err(truncated(64));
    }
    if header[4] != 2 || header[5] != 1 {
        return Err(foreign("not a 64-bit little-endian ELF file"));
    }
    if number(&header, 18, 2) != Some(u64::from(MACHINE)) {
        return Err(foreign("an ELF file for another processor"));
    }
    let (table, size, count) = (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    let (Some(table), Some(56), Some(count)) = (table, size, count) else {
        return Err(foreign("an ELF file with odd program headers"));
    };
    for index in 0..count {
        let start = table.saturating_add(index * 56);
        let end = start.saturating_add(56);
        if end > length {
            return Err(truncated(end));
        }
        let mut part = [0; 56];
        file.read_exact_at(&mut part, start).map_err(FileProblem::from)?;
        // p_type 0 (PT_LOAD = 1), p_offset 8, p_paddr 24, p_filesz 32, p_memsz 40.
        let field = |at| number(&part, at, 8).unwrap_or(u64::MAX);
        let end = field(8).saturating_add(field(32));
        if end > length {
            return Err(truncated(end));
        }
        let (start, size) = (field(24), field(40).max(field(32)));
        let fits = usize::try_from(size).is_ok_and(|size| memory.check_range(GuestAddress(start), size));
        if number(&part, 0, 4) == Some(1) && size > 0 && !(start >= layout::HIGH_MEMORY && fits) {
            return Err(KernelProblem::Space { start, end: start.saturating_add(size) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::kernel;
    use super::*;
    use crate::machine::memory::{Backing, reserve};

    /// A kernel of one page at 16 MiB.
    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0; 4096 + 4096];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 1;
        bytes[72..80].copy_from_slice(&4096_u64.to_le_bytes());
        bytes[88..96].copy_from_slice(&0x100_0000_u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&4096_u64.to_le_bytes());
        bytes[104..112].copy_from_slice(&8192_u64.to_le_bytes());
        bytes[4096..].fill(0x90);
        bytes
    }

    fn load_bytes(bytes: &[u8]) -> Result<Kernel, KernelProblem> {
        kernel::tests::load_bytes(bytes, 0x100_0fff)
    }

    #[test]
    fn a_kernel_is_copied_to_where_it_is_linked() {
        let kernel = load_bytes(&kernel()).unwrap();
        assert_eq!(kernel, Kernel { entry: Entry::Direct64(0x100_0000), end: 0x100_2000 });
    }

    #[test]
    fn a_truncated_kernel_is_called_so() {
        for length in [4, 63, 100, 119, 4096, 8191] {
            let problem = load_bytes(&kernel()[..length]).unwrap_err();
            assert!(matches!(problem, KernelProblem::Truncated { .. }), "{length}: {problem}");
        }
        assert!(matches!(load_bytes(&[]).unwrap_err(), KernelProblem::File(FileProblem::Empty)));
    }

    #[test]
    fn a_foreign_file_is_called_so() {
        for (at, value) in [(0, 0), (4, 1), (5, 2), (18, 40), (54, 32)] {
            let mut bytes = kernel();
            bytes[at] = value;
            assert!(matches!(load_bytes(&bytes).unwrap_err(), KernelProblem::Foreign { .. }), "{at}");
        }
    }

    #[test]
    fn a_kernel_beyond_memory_or_below_1_mib_is_refused() {
        for address in [0x400_0000_u64, 0, u64::MAX] {
            let mut bytes = kernel();
            bytes[88..96].copy_from_slice(&address.to_le_bytes());
            assert!(matches!(load_bytes(&bytes).unwrap_err(), KernelProblem::Space { .. }), "{address:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in prop::collection::vec(any::<u8>(), 120)) {
            let mut bytes = kernel();
            bytes[6..120].copy_from_slice(&header[6..]);
            bytes[18..20].copy_from_slice(&MACHINE.to_le_bytes());
            bytes[54..56].copy_from_slice(&[56, 0]);
            let memory = reserve(64, Backing::Anonymous).unwrap();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let _ = check(&file, 8192, &memory);
        }
    }
}
