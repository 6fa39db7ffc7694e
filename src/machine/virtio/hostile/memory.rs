//! A guest's memory for a driver, between pages that nobody may touch: who writes beside it has a fault at once, AddressSanitizer
//! or not, and the kernel that is told to write there refuses.
#![allow(unsafe_code)] // mappings take addresses

use std::fs::File;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::steps::MEMORY;
use super::subjects::file;

/// On each side.
const BESIDE: usize = 1 << 20;

/// Both mappings; nothing of them is used after it.
pub(super) struct Memory {
    pub guest: GuestMemoryMmap,
    start: NonNull<c_void>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new() -> Self {
        let file = file();
        file.set_len(MEMORY).unwrap();
        let inside = NonZeroUsize::new(usize::try_from(MEMORY).unwrap()).unwrap();
        let whole = inside.checked_add(2 * BESIDE).unwrap();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping where the kernel likes; nothing existing is replaced.
        let start = unsafe { mmap_anonymous(None, whole, ProtFlags::PROT_NONE, flags) }.unwrap();
        let guest = Self::within(start, inside, file);
        Self { guest, start, bytes: whole.get() }
    }

    fn within(start: NonNull<c_void>, inside: NonZeroUsize, file: File) -> GuestMemoryMmap {
        let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        let at = start.addr().checked_add(BESIDE).unwrap();
        // SAFETY: it replaces the middle of the mapping that was just made and that nobody uses yet.
        let place = unsafe { mmap(Some(at), inside, access, flags | MapFlags::MAP_FIXED, &file, 0) }.unwrap();
        let region = MmapRegionBuilder::new(inside.get())
            .with_file_offset(FileOffset::new(file, 0))
            .with_mmap_prot(access.bits())
            .with_mmap_flags(flags.bits());
        // SAFETY: it is as long, and mapped until `Memory` goes, after which nobody has the region.
        let region = unsafe { region.with_raw_mmap_pointer(place.as_ptr().cast()) }.build().unwrap();
        let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
        GuestMemoryMmap::from_regions(vec![region]).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mappings; the devices that were told of them are gone.
        unsafe { munmap(self.start, self.bytes) }.unwrap();
    }
}
