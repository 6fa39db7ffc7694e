//! What every machine is booted from.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use msb_agent::protocol;

use super::{DiskConfig, MachineConfig, Settings, Size, Throttles};

/// The guest's kernel and initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// Uncompressed kernel: an ELF file, or on aarch64 an `Image`.
    pub kernel: PathBuf,
    /// cpio archive whose `/init` is the agent.
    pub initramfs: PathBuf,
}

/// What our kernel is told beyond the machine's own words; `guest/kernel/README.md` has what each saves.
const KERNEL_WORDS: &[&str] = &[
    // No watchdog over a clock that KVM keeps.
    #[cfg(target_arch = "x86_64")]
    "tsc=reliable",
    // Lock prefixes are not patched away: with one processor that is most of the patching.
    #[cfg(target_arch = "x86_64")]
    "noreplace-smp",
    // Mounts, namespaces and cgroups wait for RCU: microseconds in place of ticks.
    "rcupdate.rcu_expedited=1",
    // The mitigation is not compiled in; an AMD processor would get a warning.
    #[cfg(target_arch = "x86_64")]
    "spec_rstack_overflow=off",
    // No interface dummy0 that nobody asked for.
    "dummy.numdummies=0",
    // No bounce buffers: all of the guest's memory is the devices'.
    "swiotlb=noforce",
];

impl Assets {
    /// Environment variable that names another kernel.
    pub const KERNEL_VARIABLE: &str = "MSB_KERNEL";
    /// Environment variable that names another initramfs.
    pub const INITRAMFS_VARIABLE: &str = "MSB_INITRAMFS";

    /// Those of `settings`, unless `variable` (the environment, read at the edge) names others.
    pub fn of(settings: &Settings, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let named = |name: &str, otherwise: &Path| {
            variable(name).filter(|path| !path.is_empty()).map_or_else(|| otherwise.into(), PathBuf::from)
        };
        Self {
            kernel: named(Self::KERNEL_VARIABLE, &settings.kernel),
            initramfs: named(Self::INITRAMFS_VARIABLE, &settings.initramfs),
        }
    }

    /// A machine of this size, booted from these with `kernel_args` added, that keeps its console in `directory`.
    #[must_use]
    pub fn machine(
        &self,
        size: Size,
        kernel_args: Vec<String>,
        disks: Vec<DiskConfig>,
        directory: &Path,
    ) -> MachineConfig {
        MachineConfig {
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
            shared_memory: false,
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            kernel_args: KERNEL_WORDS.iter().map(|word| (*word).to_owned()).chain(kernel_args).collect(),
            disks,
            file_system: None,
            // Each is a device that the guest looks at while it starts, and takes one of the interrupt lines that images
            // mounted as disks need too; more than four networks at the same time are rare.
            nics: 4,
            spare_disks: 0,
            throttles: Throttles::default(),
            host_ports: vec![protocol::CHANNEL_PORT, protocol::NAMES_PORT, protocol::TIME_PORT],
            console_log: directory.join("console.log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_wins_unless_it_is_empty() {
        let settings = Settings::default();
        let assets = Assets::of(&settings, |name| match name {
            Assets::KERNEL_VARIABLE => Some("/k".into()),
            Assets::INITRAMFS_VARIABLE => Some("".into()),
            _ => None,
        });
        assert_eq!(assets, Assets { kernel: "/k".into(), initramfs: settings.initramfs });
    }
}
