//! The host kernel serves the queues itself (vhost-net): frames go between the guest's memory and the tap without a
//! system call of ours.
//!
//! Enters: an activation. Leaves: nothing until the device is reset. What the guest puts into its queues is read by the
//! host's kernel then, as by that of every QEMU with `vhost=on`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vhost::net::VhostNet;
use vhost::vhost_kern::net::Net as Kernel;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::eventfd::EventFd;

use super::super::{DeviceQueue, Interrupt};

/// What concerns the queues; all else is between the driver and the tap.
const OF_QUEUES: u64 = 1 << VIRTIO_F_VERSION_1
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// A device of the kernel's that serves until it is dropped.
pub struct Vhost {
    kernel: Kernel<Arc<GuestMemoryMmap>>,
    /// How many queues it has.
    count: usize,
}

impl std::fmt::Debug for Vhost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vhost")
    }
}

/// Whether the host has it for us.
pub fn is_there() -> bool {
    File::options().read(true).write(true).open("/dev/vhost-net").is_ok()
}

impl Vhost {
    /// Gives the queues and the tap to the kernel, for a driver with these features.
    pub fn start(
        memory: &GuestMemoryMmap,
        queues: &[DeviceQueue],
        features: u64,
        interrupt: &Interrupt,
        tap: OwnedFd,
    ) -> io::Result<Self> {
        let kernel = Kernel::new(Arc::new(memory.clone())).map_err(failed)?;
        kernel.set_owner().map_err(failed)?;
        let wanted = features & OF_QUEUES;
        if wanted & !kernel.get_features().map_err(failed)? != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        kernel.set_features(wanted).map_err(failed)?;
        let regions: Vec<VhostUserMemoryRegionInfo> = memory.iter().map(region).collect();
        kernel.set_mem_table(&regions).map_err(failed)?;
        let tap = File::from(tap);
        for (index, DeviceQueue { queue, kick, .. }) in queues.iter().enumerate() {
            serve(&kernel, index, queue, kick, interrupt.raised_elsewhere())?;
            // From here on it runs. The kernel holds the tap by itself.
            kernel.set_backend(index, Some(&tap)).map_err(failed)?;
        }
        Ok(Self { kernel, count: queues.len() })
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        for index in 0..self.count {
            // Waits for what is under way; closing the descriptor would do the same later.
            let _ = self.kernel.set_backend(index, None);
        }
    }
}

fn serve(
    kernel: &Kernel<Arc<GuestMemoryMmap>>,
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
