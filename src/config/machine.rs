//! What the VMM is told: the only thing that `machine` knows of the outside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One virtual machine, complete: nothing else decides what is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Virtual processors, 1 to 32.
    pub vcpus: u8,
    /// Guest memory in MiB; at least 64.
    pub memory_mib: u64,
    /// Uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// cpio archive (newc) whose `/init` is the agent.
    pub initramfs: PathBuf,
    /// Words put at the end of the kernel's command line, after the machine's own.
    pub kernel_args: Vec<String>,
    /// Block devices in the order of their names in the guest: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<DiskConfig>,
    /// vsock ports on which the guest may call the host; a call to any other port is refused.
    pub host_ports: Vec<u32>,
    /// Where the guest's console (early boot, panics) is kept, bounded in size.
    pub console_log: PathBuf,
}

/// One block device, served from a raw image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// The raw image; its length, rounded down to 512 bytes, is the disk's.
    pub path: PathBuf,
    /// Opened read-only and announced as such (`VIRTIO_BLK_F_RO`).
    pub read_only: bool,
}
