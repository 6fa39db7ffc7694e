//! The kernel as an `Image` (Documentation/arch/arm64/booting.rst), read to the place in RAM that its header asks for.

use std::fs::File;
use std::os::unix::fs::FileExt;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::pe::PE;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::file::FileProblem;
use super::kernel::{Entry, Kernel, KernelProblem, number};
use crate::machine::layout;

/// What a kernel is called here.
pub(super) const NAME: &str = "Image";

/// Where it has which bytes.
pub const MAGIC: (u16, &[u8]) = (56, b"ARM\x64");

/// Bytes of the header, and where in it are: how far behind a multiple of 2 MiB the kernel wants to be, how much memory it
/// takes with its zeroed data, its flags.
const HEADER: usize = 64;
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
/// In [`FLAGS`]: the kernel is big-endian.
const BIG_ENDIAN: u64 = 1;

/// Copies the kernel, of `length` bytes, into guest memory.
pub(super) fn load(memory: &GuestMemoryMmap, mut file: File, length: u64) -> Result<Kernel, KernelProblem> {
    let (start, end) = check(&file, length, memory)?;
    let base = GuestAddress(layout::KERNEL);
    let loaded = PE::load(memory, Some(base), &mut file, None).map_err(KernelProblem::Loader)?;
    if loaded.kernel_load.raw_value() != start {
        // Somebody else writes the file.
        return Err(KernelProblem::Foreign { what: "a file that changes" });
    }
    Ok(Kernel { entry: Entry::Image(start), end })
}

/// Where it begins in guest memory, and where its zeroed data ends.
fn check(file: &File, length: u64, memory: &GuestMemoryMmap) -> Result<(u64, u64), KernelProblem> {
    let foreign = |what| KernelProblem::Foreign { what };
    let mut header = [0; HEADER];
    let read = file.read_at(&mut header, 0).map_err(FileProblem::from)?;
    if read < HEADER {
        return Err(KernelProblem::Truncated { needed: HEADER as u64, length });
    }
    if !header[usize::from(MAGIC.0)..].starts_with(MAGIC.1) {
        return Err(foreign("not an arm64 Image (compressed, or of another processor?)"));
    }
    let field = |at| number(&header, at, 8).unwrap_or(u64::MAX);
    if field(FLAGS) & BIG_ENDIAN != 0 {
        return Err(foreign("a big-endian kernel"));
    }
    // Before 3.17 the header did not say.
    if field(IMAGE_SIZE) == 0 {
        return Err(foreign("an Image that does not say its size"));
    }
    let start = layout::KERNEL.saturating_add(field(TEXT_OFFSET));
    let size = field(IMAGE_SIZE).max(length);
    let end = start.saturating_add(size);
    let fits = usize::try_from(size).is_ok_and(|size| memory.check_range(GuestAddress(start), size));
    if fits { Ok((start, end)) } else { Err(KernelProblem::Space { start, end }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::kernel;
    use super::*;
    use crate::machine::memory::{Backing, reserve};

    const MAGIC_AT: usize = 56;

    /// A kernel of one page, with as much zeroed data behind it.
    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0x90; 4096];
        bytes[..HEADER].fill(0);
        bytes[IMAGE_SIZE..IMAGE_SIZE + 8].copy_from_slice(&8192_u64.to_le_bytes());
        bytes[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(b"ARM\x64");
        bytes
    }

    fn load_bytes(bytes: &[u8]) -> Result<Kernel, KernelProblem> {
        kernel::tests::load_bytes(bytes, layout::KERNEL + 0xfff)
    }

    #[test]
    fn a_kernel_is_copied_to_where_it_wants_to_be() {
        let kernel = load_bytes(&kernel()).unwrap();
        assert_eq!(kernel, Kernel { entry: Entry::Image(layout::KERNEL), end: layout::KERNEL + 8192 });
    }

    #[test]
    fn what_is_none_is_called_so() {
        assert!(matches!(load_bytes(&kernel()[..63]), Err(KernelProblem::Truncated { .. })));
        for (at, value) in [(MAGIC_AT, 0), (FLAGS, 1), (IMAGE_SIZE + 1, 0)] {
            let mut bytes = kernel();
            bytes[at] = value;
            assert!(matches!(load_bytes(&bytes), Err(KernelProblem::Foreign { .. })), "{at}");
        }
    }

    #[test]
    fn a_kernel_beyond_memory_is_refused() {
        for (at, value) in [(TEXT_OFFSET, u64::MAX), (IMAGE_SIZE, 64 << 20), (IMAGE_SIZE, u64::MAX)] {
            let mut bytes = kernel();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert!(matches!(load_bytes(&bytes), Err(KernelProblem::Space { .. })), "{at} {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in prop::collection::vec(any::<u8>(), HEADER)) {
            let mut bytes = kernel();
            bytes[..MAGIC_AT].copy_from_slice(&header[..MAGIC_AT]);
            let memory = reserve(64, Backing::Anonymous).unwrap();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let _ = check(&file, 4096, &memory);
        }
    }
}
