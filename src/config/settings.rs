//! `/etc/msb/config.toml`: what the owner of a host decides for all of its containers.
//!
//! Enters: the file's text, read at the edge. Leaves: [`Settings`], with the built-in default for whatever the file
//! leaves out, and nothing in it that can't be had. A key that isn't known is an error: one that is misspelt would
//! otherwise do nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bytes, Throttle};

/// The most processors that a machine has.
pub const MAX_VCPUS: u8 = 32;
/// The smallest machine: the guest's kernel and the initramfs fit with room to run.
pub const MIN_MEMORY: Bytes = Bytes(128 << 20);
/// The largest machine.
pub const MAX_MEMORY: Bytes = Bytes(1 << 40);
/// The smallest disk for what a container writes: a file system with a journal and some room.
pub const MIN_DISK: Bytes = Bytes(64 << 20);
/// The largest: what a file can have on an ext4 host, in whole TiB.
pub const MAX_DISK: Bytes = Bytes(15 << 40);

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The guest's kernel: an uncompressed ELF file.
    pub kernel: PathBuf,
    /// The guest's first file system: a cpio archive whose `/init` is the agent.
    pub initramfs: PathBuf,
    /// virtiofsd, which serves the volumes.
    pub virtiofsd: PathBuf,
    /// Which annotations count, without their prefix `dev.msb.`; the others are refused.
    pub annotations: Vec<Annotation>,
    /// How large machines are.
    pub machine: Machine,
    /// How large disks are.
    pub disk: Disk,
    /// What networks may do.
    pub network: Network,
}

/// `[machine]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Processors of a machine whose container has no limit of its own.
    pub vcpus: u8,
    /// Memory of a machine whose container has no limit of its own. Not taken from the host before it is used.
    pub memory: Bytes,
    /// The most processors that limits and annotations give; more of them are cut.
    pub max_vcpus: u8,
    /// The most memory that limits and annotations may ask for; more is refused.
    pub max_memory: Bytes,
    /// Added to a container's limit for the guest's own kernel and agent; its page tables come on top of this.
    pub overhead: Bytes,
    /// Every machine takes in the containers that join its container's network: `dev.msb.pod` for all.
    pub pods: bool,
    /// What holds the VMM back.
    pub confinement: Confinement,
}

/// What a VMM's process is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// A user of its own without power, an empty root, and the system calls that it needs: another one ends it.
    #[default]
    Enforced,
    /// For whoever looks for a call that is missing: another one is made and noted in the host's kernel log.
    Logged,
    /// For whoever debugs the VMM: it is root, and may do anything.
    Off,
}

impl Confinement {
    /// What is to be told whenever a VMM is not held back.
    #[must_use]
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Enforced => None,
            Self::Logged => Some(
                "WARNING: machine.confinement is \"logged\": the VMM may make any system call. Not for guests that you do not \
                 trust",
            ),
            Self::Off => Some(
                "WARNING: machine.confinement is \"off\": the VMM is root on this host, and a guest that breaks into it is too. \
                 Not for guests that you do not trust",
            ),
        }
    }
}

/// `[disk]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// Of the disk for what a container writes. Sparse: it takes what is written and not deleted, and no more.
    pub size: Bytes,
    /// How much each disk of a machine may do, without a wish of its own; empty: there is no limit.
    pub rate: Throttle,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// As of disks: of each interface in each direction.
    pub rate: Throttle,
}

/// Annotations that can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Annotation {
    /// `dev.msb.vcpus`
    Vcpus,
    /// `dev.msb.memory`
    Memory,
    /// `dev.msb.disk-size`
    DiskSize,
    /// `dev.msb.root`
    Root,
    /// `dev.msb.pod`
    Pod,
    /// `dev.msb.network`
    Network,
    /// `dev.msb.disk-rate`
    DiskRate,
    /// `dev.msb.network-rate`
    NetworkRate,
    /// `dev.msb.kernel-args`
    KernelArgs,
}

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It is no TOML, or has a key or a value that means nothing.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A number that can't be had.
    #[error("{key} = {value} is out of range: give {least} to {most}")]
    Range {
        /// As in the file.
        key: &'static str,
        /// As given.
        value: String,
        /// The least that can be had.
        least: String,
        /// The most that can be had.
        most: String,
    },
}

impl Settings {
    /// Where the file is.
    pub const PATH: &str = "/etc/msb/config.toml";
    /// Environment variable that names another file.
    pub const VARIABLE: &str = "MSB_CONFIG";

    /// From the text of a file; of an empty one, all is as built in.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text)?;
        let Machine { vcpus, memory, max_vcpus, max_memory, overhead, pods: _, confinement: _ } =
            settings.machine;
        within("machine.max-vcpus", max_vcpus, 1, MAX_VCPUS)?;
        within("machine.vcpus", vcpus, 1, max_vcpus)?;
        within("machine.max-memory", max_memory, MIN_MEMORY, MAX_MEMORY)?;
        within("machine.memory", memory, MIN_MEMORY, max_memory)?;
        within("machine.overhead", overhead, Bytes(32 << 20), max_memory)?;
        within("disk.size", settings.disk.size, MIN_DISK, MAX_DISK)?;
        Ok(settings)
    }

    /// As a file that gives the same.
    ///
    /// # Panics
    /// Never: every value has its TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain tables, strings and numbers")
    }
}

fn within<T: PartialOrd + ToString>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), SettingsError> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    let [value, least, most] = [value, least, most].map(|bound| bound.to_string());
    Err(SettingsError::Range { key, value, least, most })
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kernel: "/usr/lib/msb/vmlinux".into(),
            initramfs: "/usr/lib/msb/initramfs".into(),
            virtiofsd: "/usr/libexec/virtiofsd".into(),
            annotations: vec![
                Annotation::Vcpus,
                Annotation::Memory,
                Annotation::DiskSize,
                Annotation::Root,
                Annotation::Pod,
                Annotation::Network,
                Annotation::DiskRate,
                Annotation::NetworkRate,
            ],
            machine: Machine::default(),
            disk: Disk::default(),
            network: Network::default(),
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            vcpus: 1,
            memory: Bytes(1 << 30),
            max_vcpus: MAX_VCPUS,
            max_memory: MAX_MEMORY,
            overhead: Bytes(64 << 20),
            pods: false,
            confinement: Confinement::Enforced,
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self { size: Bytes(16 << 30), rate: Throttle::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse(&Settings::default().to_toml()).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_given_counts_and_the_rest_stays() {
        let text = "kernel = '/k'\nannotations = ['kernel-args']\n[machine]\nmemory = '512m'\nvcpus = 4\nconfinement = 'logged'\n";
        let settings = Settings::parse(text).unwrap();
        let confinement = Confinement::Logged;
        let machine = Machine { memory: Bytes(512 << 20), vcpus: 4, confinement, ..Machine::default() };
        let annotations = vec![Annotation::KernelArgs];
        let expected = Settings { kernel: "/k".into(), annotations, machine, ..Settings::default() };
        assert_eq!(settings, expected);
        let settings = Settings::parse("[network]\nrate = 'bytes=1M'").unwrap();
        assert_eq!(settings.network.rate, "bytes=1M".parse().unwrap());
        assert_eq!(Settings::parse(&settings.to_toml()).unwrap(), settings);
    }

    #[test]
    fn what_can_not_be_had_is_refused_by_its_name() {
        for (text, word) in [
            ("kernal = '/k'", "kernal"),
            ("annotations = ['anything']", "anything"),
            ("[machine]\nvcpus = 0", "machine.vcpus"),
            ("[machine]\nvcpus = 33", "machine.vcpus"),
            ("[machine]\nmax-vcpus = 2\nvcpus = 3", "1 to 2"),
            ("[machine]\nmemory = '1M'", "128M"),
            ("[machine]\nmemory = 'much'", "much"),
            ("[machine]\noverhead = '1M'", "machine.overhead"),
            ("[machine]\nconfinement = 'none'", "confinement"),
            ("[disk]\nsize = '16T'", "disk.size"),
            ("[disk]\nrate = 'fast'", "bytes=20M"),
            ("[network]\nrate = 'bytes=0'", "bytes=20M"),
            ("[disk", "TOML"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decided(text in "[a-z\\[\\]=\"' \n0-9-]{0,60}") {
            let _ = Settings::parse(&text);
        }
    }
}
