//! Guest RAM: reserved, never touched in advance, friendly to huge pages.
//!
//! Enters: a size in MiB. Leaves: [`GuestMemoryMmap`], registered with KVM. Must never know what is put into it.
//!
//! A mapping begins on a 2 MiB boundary and asks for huge pages: a fault for 2 MiB costs 3.4 times less per byte than
//! the faults for its 4 KiB pages. Without huge pages a boot to the agent's hello takes 145 ms instead of 74 (instructions
//! counted as nanoseconds). A memfd has them only where `/sys/kernel/mm/transparent_hugepage/shmem_enabled` is not
//! `never`, which is its default everywhere; so [`Backing::Shared`], for devices in another process (vhost-user), is a
//! file of a tmpfs of its own, which has its own word on that, and costs the same as [`Backing::Anonymous`].
//!
//! Guest memory is never unmapped: a process has one machine and ends with it, no clone of the memory can dangle in a
//! request in flight, and the kernel takes it back faster than we could.
#![allow(unsafe_code)] // mmap, madvise and KVM's memory slots take addresses

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use thiserror::Error;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

use super::layout;

/// Bytes of the pages that guests and KVM speak of.
const PAGE: usize = 4096;
/// Mappings begin on such a boundary, in the host as in the guest.
const HUGE_PAGE: usize = 2 << 20;
/// Where a PC has its first MiB, in small pieces; other machines have no RAM there.
const PC_START: u64 = 0;
/// The smallest guest that boots with an initramfs.
pub const MIN_MIB: u64 = 64;

/// What holds the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Private memory of this process: huge pages.
    Anonymous,
    /// A file in memory that can be passed to another process.
    Shared,
}

/// Why there is no guest memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Too small to boot, or beyond what can be addressed.
    #[error(
        "Guest memory of {mib} MiB is not possible; give at least {MIN_MIB} MiB and at most what the host can address"
    )]
    Size {
        /// As configured.
        mib: u64,
    },
    /// The kernel refused to reserve it.
    #[error(
        "Cannot reserve {bytes} bytes of address space for guest memory (errno {errno}); check `ulimit -v` and the memory limit"
    )]
    Map {
        /// How much was asked for.
        bytes: usize,
        /// Why not.
        errno: Errno,
    },
    /// vm-memory refused the region.
    #[error("Cannot describe guest memory at {start:#x}")]
    Region {
        /// Guest-physical address.
        start: u64,
    },
    /// KVM refused the region.
    #[error(
        "KVM does not take guest memory at {start:#x} ({errno}); give the machine less memory than the processor can address"
    )]
    Slot {
        /// Guest-physical address.
        start: u64,
        /// KVM's errno.
        errno: kvm_ioctls::Error,
    },
}

/// The guest-physical ranges of RAM (start, bytes): below the gap for devices, and what is left above it.
pub fn ranges(mib: u64) -> Result<Vec<(u64, usize)>, MemoryError> {
    let refused = || MemoryError::Size { mib };
    let bytes = mib.checked_mul(1 << 20).filter(|_| mib >= MIN_MIB).ok_or_else(refused)?;
    let low = bytes.min(layout::GAP_START - layout::RAM_START);
    let mut ranges = vec![(layout::RAM_START, low)];
    if bytes > low {
        layout::GAP_END.checked_add(bytes - low).ok_or_else(refused)?;
        ranges.push((layout::GAP_END, bytes - low));
    }
    ranges
        .into_iter()
        .map(|(start, bytes)| Ok((start, usize::try_from(bytes).map_err(|_| refused())?)))
        .collect()
}

/// Reserves guest memory; nothing of it is touched.
pub fn reserve(mib: u64, backing: Backing) -> Result<GuestMemoryMmap, MemoryError> {
    let regions = ranges(mib)?
        .into_iter()
        .map(|(start, bytes)| {
            let (address, file) =
                map(bytes, backing, start == PC_START).map_err(|errno| MemoryError::Map { bytes, errno })?;
            let mut region = MmapRegionBuilder::new(bytes)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_NORESERVE);
            if let Some(file) = file {
                region = region.with_file_offset(FileOffset::new(File::from(file), 0));
            }
            // SAFETY: `map` just returned a mapping of that length, which is never unmapped.
            let region = unsafe { region.with_raw_mmap_pointer(address.as_ptr().cast()) };
            region
                .build()
                .ok()
                .and_then(|region| GuestRegionMmap::new(region, GuestAddress(start)))
                .ok_or(MemoryError::Region { start })
        })
        .collect::<Result<Vec<_>, _>>()?;
    GuestMemoryMmap::from_regions(regions).map_err(|_| MemoryError::Region { start: layout::RAM_START })
}

/// A mapping that begins on a 2 MiB boundary; `small_start`: its first 2 MiB stay small pages.
fn map(
    bytes: usize,
    backing: Backing,
    small_start: bool,
) -> Result<(NonNull<libc::c_void>, Option<OwnedFd>), Errno> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
    let padded = size.checked_add(HUGE_PAGE).ok_or(Errno::ENOMEM)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes; nothing existing is replaced.
    let start = unsafe { mmap_anonymous(None, padded, access, flags) }?;
    let head = start.as_ptr().align_offset(HUGE_PAGE);
    // SAFETY: `head` is below HUGE_PAGE, by which the mapping is longer than `bytes`.
    let aligned = unsafe { start.byte_add(head) };
    if head > 0 {
        // SAFETY: the part of our own mapping before `aligned`, which nobody uses.
        unsafe { munmap(start, head) }?;
    }
    // SAFETY: as above: the end of `bytes` is inside the mapping.
    let end = unsafe { aligned.byte_add(bytes) };
    let tail = HUGE_PAGE - head;
    if tail > 0 {
        // SAFETY: the part of our own mapping behind what is used.
        unsafe { munmap(end, tail) }?;
    }
    let file = match backing {
        Backing::Anonymous => None,
        Backing::Shared => {
            // A host without such a file system, or a VMM that may not mount: slower, and as good otherwise.
            let file = huge_file().or_else(|_| memfd_create(c"guest-memory", MFdFlags::MFD_CLOEXEC))?;
            nix::unistd::ftruncate(&file, i64::try_from(bytes).map_err(|_| Errno::EFBIG)?)?;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED;
            // SAFETY: replaces exactly the mapping that was made above.
            unsafe { mmap(NonZeroUsize::new(aligned.as_ptr().addr()), size, access, flags, &file, 0) }?;
            Some(file)
        }
    };
    // Advice only: a kernel without huge pages says EINVAL and works all the same.
    // SAFETY: our own mapping; the advice does not change its contents.
    let _ = unsafe { madvise(aligned, bytes, MmapAdvise::MADV_HUGEPAGE) };
    if small_start && bytes > HUGE_PAGE {
        // Below 1 MiB the boot tables touch a dozen small pages and Linux a few more: less than clearing a huge one.
        // SAFETY: as above.
        let _ = unsafe { madvise(aligned, HUGE_PAGE, MmapAdvise::MADV_NOHUGEPAGE) };
    }
    // A core file of the VMM must not hold the guest's memory.
    // SAFETY: as above.
    let _ = unsafe { madvise(aligned, bytes, MmapAdvise::MADV_DONTDUMP) };
    Ok((aligned, file))
}

/// An empty file without a name, on a tmpfs that is mounted nowhere and gives huge pages to whom asks for them. Takes
/// CAP_SYS_ADMIN.
fn huge_file() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Of any size: what is not touched takes nothing.
    for (key, value) in [("huge", "advise"), ("size", "0"), ("mode", "700")] {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    // It lives on as long as the file.
    openat(&mount, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
}

/// Makes the memory the guest's, one KVM slot per region.
pub fn register(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        place(vm, slot, region.start_addr(), region, 0)?;
    }
    Ok(())
}

/// Memory at `start`, at least so many bytes, that the guest can only read: its writes are exits, as they are where there is
/// no memory. Once, behind the slots of `memory`.
pub fn register_read_only(
    vm: &VmFd,
    memory: &GuestMemoryMmap,
    start: GuestAddress,
    bytes: usize,
) -> Result<Arc<MmapRegion>, MemoryError> {
    let bytes = bytes.next_multiple_of(PAGE);
    let region = MmapRegion::new(bytes).map_err(|_| MemoryError::Region { start: start.raw_value() })?;
    let region = Arc::new(region);
    // KVM has it as long as the process: like all guest memory it is never unmapped.
    std::mem::forget(Arc::clone(&region));
    let slot = u32::try_from(memory.num_regions()).expect("guest memory has two regions at most");
    place(vm, slot, start, &region, KVM_MEM_READONLY)?;
    Ok(region)
}

/// Gives KVM a mapping that is never unmapped.
fn place(
    vm: &VmFd,
    slot: u32,
    start: GuestAddress,
    region: &MmapRegion,
    flags: u32,
) -> Result<(), MemoryError> {
    let start = start.raw_value();
    let description = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: start,
        memory_size: u64::try_from(region.size()).expect("a size has at most 64 bits"),
        userspace_addr: u64::try_from(region.as_ptr().addr()).expect("an address has at most 64 bits"),
    };
    // SAFETY: the region is mapped for that length and never unmapped; no other slot overlaps it: guest memory refuses that,
    // and the devices are in its gap.
    unsafe { vm.set_user_memory_region(description) }.map_err(|errno| MemoryError::Slot { start, errno })
}

/// Whole pages of guest memory, all in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    start: GuestAddress,
    bytes: usize,
}

impl Pages {
    /// Size of the pages that guests speak of.
    pub const SIZE: u64 = PAGE as u64;

    /// The pages of that range; none when it has a part of a page, is empty or is not all in one region.
    pub fn new(memory: &GuestMemoryMmap, start: GuestAddress, bytes: u64) -> Option<Self> {
        let whole = start.raw_value().is_multiple_of(Self::SIZE) && bytes.is_multiple_of(Self::SIZE);
        let region = memory.find_region(start).filter(|_| whole && bytes > 0)?;
        let behind = region.len() - start.unchecked_offset_from(region.start_addr());
        (bytes <= behind).then_some(Self { start, bytes: usize::try_from(bytes).ok()? })
    }

    /// The first address.
    pub fn start(self) -> GuestAddress {
        self.start
    }

    /// How many bytes.
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

/// Gives pages back to the host, as far as they are whole pages of the host's too. The guest reads zeroes there until it
/// writes again; of shared memory they are gone for every process that has mapped it.
pub fn give_back(memory: &GuestMemoryMmap, pages: Pages) {
    let host_page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    let host_page = host_page.expect("every Linux says how large its pages are");
    let (start, bytes) = (pages.start.raw_value(), u64::try_from(pages.bytes).unwrap_or(0));
    // Regions and their mappings begin on a boundary of every page size.
    let (from, to) = (start.next_multiple_of(host_page), (start + bytes) / host_page * host_page);
    let (Some(region), Ok(length)) =
        (memory.find_region(pages.start), usize::try_from(to.saturating_sub(from)))
    else {
        return;
    };
    let Some(address) = memory.get_host_address(GuestAddress(from)).ok().and_then(NonNull::new) else {
        return;
    };
    let advice = match region.file_offset() {
        None => MmapAdvise::MADV_DONTNEED,
        Some(_) => MmapAdvise::MADV_REMOVE,
    };
    // What can't be given back stays: the guest does without it all the same.
    // SAFETY: inside the region's mapping, which is never unmapped. Its contents change as the guest could change them:
    // all of this process reads guest memory as volatile.
    let _ = unsafe { madvise(address.cast(), length, advice) };
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// Where memory of 4 GiB is: each region's start and size. A PC has its devices in the midst of it, Arm before it.
    const FOUR_GIB: &[(u64, u64)] =
        if cfg!(target_arch = "x86_64") { &[(0, 3 * GIB), (4 * GIB, GIB)] } else { &[(2 * GIB, 4 * GIB)] };

    /// The same, with the size as one of this process.
    fn sized(regions: &[(u64, u64)]) -> Vec<(u64, usize)> {
        regions.iter().map(|(start, bytes)| (*start, usize::try_from(*bytes).unwrap())).collect()
    }

    #[test]
    fn ranges_leave_the_gap_for_devices_free() {
        assert_eq!(ranges(128).unwrap(), [(layout::RAM_START, 128 << 20)]);
        assert_eq!(ranges(4096).unwrap(), sized(FOUR_GIB));
        let low = layout::GAP_START - layout::RAM_START;
        assert_eq!(ranges(low >> 20).unwrap(), sized(&[(layout::RAM_START, low)]));
        let beyond = sized(&[(layout::RAM_START, low), (layout::GAP_END, 1 << 20)]);
        assert_eq!(ranges((low >> 20) + 1).unwrap(), beyond);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for mib in [0, 63, u64::MAX, u64::MAX >> 20] {
            assert!(matches!(ranges(mib), Err(MemoryError::Size { .. })), "{mib}");
        }
    }

    #[test]
    fn both_backings_are_aligned_and_hold_what_is_written() {
        for backing in [Backing::Anonymous, Backing::Shared] {
            let memory = reserve(4096, backing).unwrap();
            for region in memory.iter() {
                assert_eq!(region.as_ptr().align_offset(HUGE_PAGE), 0);
                assert_eq!(region.file_offset().is_some(), backing == Backing::Shared);
            }
            for (start, bytes) in FOUR_GIB {
                for address in [*start, start + bytes - 8] {
                    memory.write_obj(0x1234_5678_9abc_def0_u64, GuestAddress(address)).unwrap();
                    assert_eq!(memory.read_obj::<u64>(GuestAddress(address)).unwrap(), 0x1234_5678_9abc_def0);
                }
                assert!(memory.write_obj(1_u8, GuestAddress(start + bytes)).is_err());
            }
        }
    }

    #[test]
    fn hundreds_of_gib_cost_nothing_until_touched() {
        reserve(300 << 10, Backing::Anonymous).unwrap();
    }

    /// Resident memory of this process, in MiB; each test has a process of its own.
    fn resident_mib() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() >> 8
    }

    #[test]
    fn kvm_takes_hundreds_of_gib_and_touches_none() {
        let vm = match crate::machine::kvm::open().map(|kvm| kvm.create_vm()) {
            Ok(Ok(vm)) => vm,
            Ok(Err(error)) => panic!("{error}"),
            Err(problem) => return test_skips::skip(problem),
        };
        let before = resident_mib();
        for backing in [Backing::Anonymous, Backing::Shared] {
            let memory = reserve(256 << 10, backing).unwrap();
            register(&vm, &memory).unwrap();
            // The next one takes its slots.
            for slot in 0..u32::try_from(memory.num_regions()).unwrap() {
                let none = kvm_userspace_memory_region { slot, ..Default::default() };
                // SAFETY: without processors nothing uses the slot.
                unsafe { vm.set_user_memory_region(none) }.unwrap();
            }
        }
        assert!(resident_mib() < before + 16);
    }

    #[test]
    fn pages_are_whole_and_of_one_region() {
        let memory = reserve(4096, Backing::Anonymous).unwrap();
        let pages = |start, bytes| Pages::new(&memory, GuestAddress(start), bytes).is_some();
        for (start, bytes) in FOUR_GIB.iter().copied() {
            let end = start + bytes;
            for (start, bytes) in [(start, 4096), (start, bytes), (end - 4096, 4096)] {
                assert!(pages(start, bytes), "{start:#x} {bytes}");
            }
            for (start, bytes) in [
                (start, 0),
                (start + 1, 4096),
                (start, 4095),
                (start, bytes + 4096),
                (end - 4096, 8192),
                (end, 4096),
                (start.wrapping_sub(4096), 8192),
                (start, !4095),
            ] {
                assert!(!pages(start, bytes), "{start:#x} {bytes}");
            }
        }
        assert!(!pages(!4095, 4096));
    }

    /// How many of the 1024 pages at `address` the host holds.
    fn resident(memory: &GuestMemoryMmap, address: u64) -> usize {
        let start = memory.get_host_address(GuestAddress(address)).unwrap();
        let mut present = [0_u8; 1024];
        // SAFETY: the range is inside the mapping, and the array has a byte for each of its pages.
        let code = unsafe { libc::mincore(start.cast(), present.len() * 4096, present.as_mut_ptr()) };
        assert_eq!(code, 0);
        present.iter().filter(|byte| **byte & 1 == 1).count()
    }

    #[test]
    fn what_is_given_back_is_the_hosts_again() {
        for backing in [Backing::Anonymous, Backing::Shared] {
            let memory = reserve(64, backing).unwrap();
            let (start, bytes) = (layout::RAM_START + (8 << 20), 4 << 20);
            memory.write_slice(&vec![0xaa; bytes + 4096], GuestAddress(start)).unwrap();
            assert_eq!(resident(&memory, start), 1024, "{backing:?}");
            give_back(&memory, Pages::new(&memory, GuestAddress(start), 4 << 20).unwrap());
            assert_eq!(resident(&memory, start), 0, "{backing:?}");
            assert_eq!(memory.read_obj::<u64>(GuestAddress(start + 4096)).unwrap(), 0);
            assert_eq!(memory.read_obj::<u8>(GuestAddress(start + (4 << 20))).unwrap(), 0xaa);
            memory.write_obj(1_u8, GuestAddress(start)).unwrap();
        }
    }
}
