//! The guest's kernel, checked and read into its memory: what is common to the files of every architecture.

use std::path::{Path, PathBuf};

use linux_loader::loader::Error as LoaderError;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::file::{self, FileProblem};
use super::format;
pub use super::format::MAGIC;

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
    /// The Linux boot protocol of arm64 (Documentation/arch/arm64/booting.rst).
    #[cfg(target_arch = "aarch64")]
    Image(u64),
    /// The Xen PVH boot protocol: 32-bit protected mode (note `XEN_ELFNOTE_PHYS32_ENTRY`).
    #[cfg(target_arch = "x86_64")]
    Pvh(u64),
    /// The Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst).
    #[cfg(target_arch = "x86_64")]
    Direct64(u64),
}

/// Why the kernel cannot be loaded.
#[derive(Debug, Error)]
#[error("Cannot load the kernel {}; give an uncompressed {} for this architecture", path.display(), format::NAME)]
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
    /// Something else than a kernel of this machine's format.
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
    #[error("Its headers are broken")]
    Loader(#[source] LoaderError),
}

/// Copies the kernel into guest memory.
pub fn load(memory: &GuestMemoryMmap, path: &Path) -> Result<Kernel, KernelError> {
    let fail = |problem| KernelError { path: path.to_owned(), problem };
    let (file, length) = file::open(path, false).map_err(|problem| fail(problem.into()))?;
    format::load(memory, file, length).map_err(fail)
}

/// A little-endian number of up to 8 bytes.
pub(super) fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut value = [0; 8];
    value.get_mut(..size)?.copy_from_slice(bytes.get(at..)?.get(..size)?);
    Some(u64::from_le_bytes(value))
}

#[cfg(test)]
pub(super) mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::machine::memory::{Backing, reserve};

    /// Loads a file of these bytes, that of `last` being 0x90, which it is in guest memory then.
    pub fn load_bytes(bytes: &[u8], last: u64) -> Result<Kernel, KernelProblem> {
        let memory = reserve(64, Backing::Anonymous).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let kernel = load(&memory, file.path()).map_err(|error| error.problem)?;
        assert_eq!(memory.read_obj::<u8>(GuestAddress(last)).unwrap(), 0x90);
        Ok(kernel)
    }

    #[test]
    fn a_missing_file_is_said_in_our_own_words() {
        let memory = reserve(64, Backing::Anonymous).unwrap();
        let error = load(&memory, Path::new("/nonexistent/kernel")).unwrap_err();
        assert!(matches!(error.problem, KernelProblem::File(FileProblem::Missing)));
        let error = load(&memory, Path::new("/")).unwrap_err();
        assert!(matches!(error.problem, KernelProblem::File(FileProblem::NotAFile)));
    }
}
