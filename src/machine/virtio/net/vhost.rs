//! The host kernel serves the queues itself (vhost-net): frames go between the guest's memory and the tap without a
//! system call of ours.
//!
//! Enters: an activation, and the kernel's device, opened by somebody who may. Leaves: nothing until the device is reset, but an
//! event for a ring that the kernel can't read: it would go on as if nothing were wrong, and nobody knew. What the guest puts
//! into its queues is read by the host's kernel then, as by that of every QEMU with `vhost=on`.
#![allow(unsafe_code)] // an ioctl that the crate has only for a device that it opens itself, and an EventFd without AsFd

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use nix::errno::Errno;
use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::vhost_vring_file;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::super::{DeviceQueue, Interrupt};
use super::QUEUE_SIZES;

/// What concerns the queues; all else is between the driver and the tap.
const OF_QUEUES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// `VHOST_NET_SET_BACKEND` (linux/vhost.h): `_IOW(0xaf, 0x30, struct vhost_vring_file)`.
const VHOST_NET_SET_BACKEND: u64 = 0x4008_af30;

/// The kernel's device with the memory that its queues are in.
struct Kernel {
    fd: OwnedFd,
    memory: Arc<GuestMemoryMmap>,
}

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl VhostKernBackend for Kernel {
    type AS = Arc<GuestMemoryMmap>;

    fn mem(&self) -> &Self::AS {
        &self.memory
    }
}

impl Kernel {
    /// The queue runs with that tap, or stops.
    fn set_backend(&self, index: usize, tap: Option<BorrowedFd>) -> io::Result<()> {
        let index = u32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        let file = vhost_vring_file { index, fd: tap.map_or(-1, |tap| tap.as_raw_fd()) };
        // SAFETY: the kernel reads one structure of this kind.
        let result = unsafe { libc::ioctl(self.as_raw_fd(), VHOST_NET_SET_BACKEND, &raw const file) };
        Ok(Errno::result(result).map(drop)?)
    }
}

/// The kernel's device, as it was opened, and an event for each queue: it is set when the driver broke the ring.
#[derive(Debug)]
pub struct Opened {
    fd: OwnedFd,
    broken: [EventFd; QUEUE_SIZES.len()],
}

impl Opened {
    /// With events of its own: they are made before the driver can ask for anything.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self { fd, broken: [event()?, event()?] })
    }

    /// To be watched, by the queues' numbers.
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.broken.iter().map(|event| {
            // SAFETY: the descriptor is open as long as the EventFd lives, from which the result borrows.
            unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
        })
    }

    /// Whether that queue is broken, which is said once.
    pub fn is_broken(&self, queue: u16) -> bool {
        self.broken.get(usize::from(queue)).is_some_and(|event| event.read().is_ok())
    }
}

/// A device of the kernel's that serves until it is dropped.
pub struct Vhost {
    kernel: Kernel,
    /// How many queues it has.
    count: usize,
}

impl std::fmt::Debug for Vhost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vhost")
    }
}

/// The kernel's device for one interface; none where the host has it not for us.
pub fn open() -> Option<OwnedFd> {
    let mut options = File::options();
    let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    options.open("/dev/vhost-net").ok().map(OwnedFd::from)
}

impl Vhost {
    /// Gives the queues and the tap to the kernel, for a driver with these features.
    pub fn start(
        opened: &Opened,
        memory: &GuestMemoryMmap,
        queues: &[DeviceQueue],
        features: u64,
        interrupt: &Interrupt,
        tap: BorrowedFd,
    ) -> io::Result<Self> {
        let kernel = Kernel { fd: opened.fd.try_clone()?, memory: Arc::new(memory.clone()) };
        kernel.set_owner().map_err(failed)?;
        // From here on it is undone if anything fails: a queue may run by then.
        let vhost = Self { kernel, count: queues.len() };
        let kernel = &vhost.kernel;
        let wanted = features & OF_QUEUES;
        if wanted & !kernel.get_features().map_err(failed)? != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        kernel.set_features(wanted).map_err(failed)?;
        let regions: Vec<VhostUserMemoryRegionInfo> = memory.iter().map(region).collect();
        kernel.set_mem_table(&regions).map_err(failed)?;
        for (index, (DeviceQueue { queue, kick, .. }, broken)) in
            queues.iter().zip(&opened.broken).enumerate()
        {
            // Of a driver before this one.
            let _ = broken.read();
            // A driver need not use all of them. What one that is not ready says of itself is nothing that anybody checked.
            if !queue.ready() {
                continue;
            }
            kernel.set_vring_err(index, broken).map_err(failed)?;
            serve(kernel, index, queue, kick, interrupt.raised_elsewhere())?;
            // From here on it runs. The kernel holds the tap by itself.
            kernel.set_backend(index, Some(tap))?;
        }
        Ok(vhost)
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        for index in 0..self.count {
            // Waits for what is under way; closing the descriptor would do the same later.
            let _ = self.kernel.set_backend(index, None);
        }
        // For the next driver: an owner can't be set twice.
        let _ = self.kernel.reset_owner();
    }
}

fn serve(
    kernel: &Kernel,
    index: usize,
    queue: &Queue,
    kick: &EventFd,
    interrupt: &EventFd,
) -> io::Result<()> {
    let addresses = VringConfigData {
        queue_max_size: queue.max_size(),
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: queue.desc_table(),
        used_ring_addr: queue.used_ring(),
        avail_ring_addr: queue.avail_ring(),
        log_addr: None,
    };
    kernel.set_vring_num(index, queue.size()).map_err(failed)?;
    kernel.set_vring_base(index, queue.next_avail()).map_err(failed)?;
    kernel.set_vring_addr(index, &addresses).map_err(failed)?;
    kernel.set_vring_call(index, interrupt).map_err(failed)?;
    kernel.set_vring_kick(index, kick).map_err(failed)
}

/// Where a piece of guest memory is in this process.
fn region(region: &GuestRegionMmap) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: region.start_addr().raw_value(),
        memory_size: region.len(),
        userspace_addr: u64::try_from(region.as_ptr().addr()).expect("an address has at most 64 bits"),
        mmap_offset: 0,
        mmap_handle: -1,
    }
}

fn failed(error: vhost::Error) -> io::Error {
    io::Error::other(error)
}
