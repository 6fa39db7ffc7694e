//! The initramfs: read to behind the kernel.
//!
//! Not to the end of memory, where other machines put it: there it would cost another huge page, which the kernel
//! would not otherwise touch at once.

use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::file::{self, FileProblem};
use crate::machine::layout;

/// Linux frees the initramfs by whole pages.
const PAGE: u64 = 4096;

/// Why the initramfs cannot be loaded.
#[derive(Debug, Error)]
#[error("Cannot load the initramfs {}", path.display())]
pub struct InitramfsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: InitramfsProblem,
}

/// What is wrong with an initramfs.
#[derive(Debug, Error)]
pub enum InitramfsProblem {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// It and the kernel fill the memory.
    #[error("Its {bytes} bytes do not fit into guest memory behind the kernel; give the machine more memory")]
    Space {
        /// Size of the file.
        bytes: u64,
    },
    /// It ended early: somebody else is writing it.
    #[error("Its {bytes} bytes cannot be read to the end; is it being written?")]
    Cut {
        /// Size of the file when it was opened.
        bytes: u64,
    },
}

/// Reads the initramfs into guest memory, behind `kernel_end`; returns its addresses.
pub fn load(memory: &GuestMemoryMmap, path: &Path, kernel_end: u64) -> Result<Range<u64>, InitramfsError> {
    let fail = |problem| InitramfsError { path: path.to_owned(), problem };
    let (mut file, length) = file::open(path, false).map_err(|problem| fail(problem.into()))?;
    let no_space = || fail(InitramfsProblem::Space { bytes: length });
    let start = kernel_end.checked_next_multiple_of(PAGE).ok_or_else(no_space)?;
    let end = start.checked_add(length).filter(|end| *end <= layout::GAP_START).ok_or_else(no_space)?;
    let count = usize::try_from(length).map_err(|_| no_space())?;
    if !memory.check_range(GuestAddress(start), count) {
        return Err(no_space());
    }
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, count)
        .map_err(|_| fail(InitramfsProblem::Cut { bytes: length }))?;
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::layout;
    use crate::machine::memory::{Backing, reserve};

    #[test]
    fn it_begins_on_the_next_page_and_must_fit() {
        let memory = reserve(64, Backing::Anonymous).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"070701").unwrap();
        let start = layout::RAM_START + 0x200_0000;
        assert_eq!(load(&memory, file.path(), start + 1).unwrap(), start + 0x1000..start + 0x1006);
        let error = load(&memory, file.path(), layout::RAM_START + (64 << 20) - 4096 + 1).unwrap_err();
        assert!(matches!(error.problem, InitramfsProblem::Space { bytes: 6 }));
    }
}
