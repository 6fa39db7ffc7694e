//! What every machine is booted from.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{DiskConfig, MachineConfig, Size};

/// The guest's kernel and initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// Uncompressed ELF kernel.
    pub kernel: PathBuf,
    /// cpio archive whose `/init` is the agent.
    pub initramfs: PathBuf,
}

impl Assets {
    /// Where they are installed.
    pub const KERNEL: &str = "/usr/lib/msb/vmlinux";
    /// Where they are installed.
    pub const INITRAMFS: &str = "/usr/lib/msb/initramfs";
    /// Environment variable that names another kernel.
    pub const KERNEL_VARIABLE: &str = "MSB_KERNEL";
    /// Environment variable that names another initramfs.
    pub const INITRAMFS_VARIABLE: &str = "MSB_INITRAMFS";

    /// The installed ones, unless `variable` (the environment, read at the edge) names others.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let named = |name: &str, installed: &str| {
            variable(name).filter(|path| !path.is_empty()).map_or_else(|| installed.into(), PathBuf::from)
        };
        Self {
            kernel: named(Self::KERNEL_VARIABLE, Self::KERNEL),
            initramfs: named(Self::INITRAMFS_VARIABLE, Self::INITRAMFS),
        }
    }

    /// A machine of this size, booted from these, that keeps its console in `directory`.
    #[must_use]
    pub fn machine(&self, size: Size, disks: Vec<DiskConfig>, directory: &Path) -> MachineConfig {
        MachineConfig {
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            kernel_args: Vec::new(),
            disks,
            host_ports: vec![msb_agent::protocol::CHANNEL_PORT],
            console_log: directory.join("console.log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_wins_unless_it_is_empty() {
        let assets = Assets::from_variables(|name| match name {
            Assets::KERNEL_VARIABLE => Some("/k".into()),
            Assets::INITRAMFS_VARIABLE => Some("".into()),
            _ => None,
        });
        assert_eq!(assets, Assets { kernel: "/k".into(), initramfs: Assets::INITRAMFS.into() });
    }
}
