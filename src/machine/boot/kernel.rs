//! The guest's kernel: an uncompressed ELF, checked and read to where it is linked.
//!
//! Read, not mapped and copied: the kernel's own copy into our huge pages costs 6.3 million instructions for 12 MB (3.9
//! of them clear the pages), with a mapping it is 8.2 to 10.7 for the faults and the unmapping.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{Error as LoaderError, KernelLoader};
use thiserror::Error;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::file::{self, FileProblem};
use crate::machine::layout;

/// `e_machine` of what this host's processors run (System V ABI, ELF header).
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// Where the kernel is and how it wants to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Where the first processor begins.
    pub entry: Entry,
    /// First address behind the kernel, its zeroed data included.
    pub end: u64,
}

/// How the first processor enters the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The Xen PVH boot protocol: 32-bit protected mode (note `XEN_ELFNOTE_PHYS32_ENTRY`).
    Pvh(u64),
    /// The Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst).
    Direct64(u64),
}

/// Why the kernel cannot be loaded.
#[derive(Debug, Error)]
#[error("Cannot load the kernel {}; give an uncompressed vmlinux for this architecture", path.display())]
pub struct KernelError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: KernelProblem,
}

/// What is wrong with a kernel.
#[derive(Debug, Error)]
pub enum KernelProblem {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// Something else than a 64-bit little-endian ELF for this machine.
    #[error("It is not a kernel for this machine: {what}")]
    Foreign {
        /// What it is instead.
        what: &'static str,
    },
    /// The file ends before what its headers announce.
    #[error("It is truncated: {needed} bytes announced, {length} there")]
    Truncated {
        /// Where its last part ends.
        needed: u64,
        /// Where the file ends.
        length: u64,
    },
    /// Guest memory is too small, or it wants to be where there is none.
    #[error(
        "It occupies guest memory {start:#x} to {end:#x}, which does not exist; give the machine more memory"
    )]
    Space {
        /// First address.
        start: u64,
        /// Behind the last address.
        end: u64,
    },
    /// The loader found something else.
    #[error("Its ELF headers are broken")]
    Elf(#[source] LoaderError),
}

/// Copies the kernel into guest memory.
pub fn load(memory: &GuestMemoryMmap, path: &Path) -> Result<Kernel, KernelError> {
    let fail = |problem| KernelError { path: path.to_owned(), problem };
    let (mut file, length) = file::open(path, false).map_err(|problem| fail(problem.into()))?;
    check(&file, length, memory).map_err(fail)?;
    let loaded = Elf::load(memory, None, &mut file, Some(GuestAddress(layout::HIGH_MEMORY)))
        .map_err(|error| fail(KernelProblem::Elf(error)))?;
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
    if !header.starts_with(b"\x7fELF") {
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

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut value = [0; 8];
    value.get_mut(..size)?.copy_from_slice(bytes.get(at..)?.get(..size)?);
    Some(u64::from_le_bytes(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::Bytes;

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
        let memory = reserve(64, Backing::Anonymous).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let kernel = load(&memory, file.path()).map_err(|error| error.problem)?;
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x100_0fff)).unwrap(), 0x90);
        Ok(kernel)
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

    #[test]
    fn a_missing_file_is_said_in_our_own_words() {
        let memory = reserve(64, Backing::Anonymous).unwrap();
        let error = load(&memory, Path::new("/nonexistent/kernel")).unwrap_err();
        assert!(matches!(error.problem, KernelProblem::File(FileProblem::Missing)));
        let error = load(&memory, Path::new("/")).unwrap_err();
        assert!(matches!(error.problem, KernelProblem::File(FileProblem::NotAFile)));
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
