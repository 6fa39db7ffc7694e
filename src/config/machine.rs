//! What the VMM is told: the only thing that `machine` knows of the outside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Throttles;

/// One virtual machine, complete: nothing else decides what is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// Virtual processors, 1 to 32.
    pub vcpus: u8,
    /// Guest memory in MiB; at least 64.
    pub memory_mib: u64,
    /// Whether another process can be given the guest's memory (a vhost-user device): it is a file in memory then
    /// (see [`crate::machine::memory`]).
    pub shared_memory: bool,
    /// Uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// cpio archive (newc) whose `/init` is the agent.
    pub initramfs: PathBuf,
    /// Words put at the end of the kernel's command line, after the machine's own.
    pub kernel_args: Vec<String>,
    /// Block devices in the order of their names in the guest: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<DiskConfig>,
    /// A file system that another process serves; it needs `shared_memory`.
    pub file_system: Option<FsConfig>,
    /// Slots for network interfaces, which come and go while the machine runs.
    pub nics: u8,
    /// Slots for further disks, which come and go likewise. They have interrupts together.
    pub spare_disks: u8,
    /// How much its disks and interfaces may do, those that come later too.
    pub throttles: Throttles,
    /// vsock ports on which the guest may call the host; a call to any other port is refused.
    pub host_ports: Vec<u32>,
    /// Where the guest's console (early boot, panics) is kept, bounded in size.
    pub console_log: PathBuf,
}

/// A file system device, and the process behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsConfig {
    /// By which the guest mounts it; 1 to 36 bytes.
    pub tag: String,
    /// Unix socket on which the back end (vhost-user) listens.
    pub socket: PathBuf,
}

/// One block device, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskConfig {
    /// In an image file or a block device of the host, as they are there.
    Raw {
        /// The image; its length, rounded down to 512 bytes, is the disk's.
        path: PathBuf,
        /// Opened read-only and announced as such (`VIRTIO_BLK_F_RO`).
        read_only: bool,
    },
    /// In a composition and the files that it was made of (`rootfs_builder::composed`). Always read-only.
    Composed {
        /// The composition.
        composition: PathBuf,
        /// The directories of its layers, the lowest first.
        layers: Vec<PathBuf>,
    },
}

impl DiskConfig {
    /// Whether the guest may not write to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Raw { read_only, .. } => *read_only,
            Self::Composed { .. } => true,
        }
    }
}
