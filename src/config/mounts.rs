//! `mounts` → what the guest mounts, in the same order.

use std::path::{Path, PathBuf};

use msb_agent::protocol::{Mount, MountSource};
use oci_spec::runtime::{LinuxIdMapping, Mount as OciMount};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ConfigError;

/// One entry of `mounts`, decided as far as can be without looking at the host's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountPlan {
    /// The guest makes it.
    Ready(Mount),
    /// `/dev/shm`, which the caller has made on the host: memory can't be shared with it, so the guest makes one that is
    /// as large ([`shared_memory`]), for all containers of a pod that name the same.
    SharedMemory {
        /// As in the spec.
        destination: String,
        /// The host's, if it names one.
        source: Option<PathBuf>,
    },
    /// The host's file or directory must be looked at first.
    Bind(BindMount),
    /// The host's image becomes a disk of the machine.
    Image(ImageMount),
}

/// A file system in an image file or on a block device of the host, mounted by the guest's own kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Absolute path in the container.
    pub destination: String,
    /// Absolute path on the host.
    pub source: PathBuf,
    /// What is in it.
    pub filesystem: String,
    /// As in the spec, without `loop`, which says nothing in the guest.
    pub options: Vec<String>,
    /// Nothing is written to it: a property of its descriptor.
    pub read_only: bool,
}

/// A bind mount: nothing but a look at its source tells a file from a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path in the container.
    pub destination: String,
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Without `bind` and `rbind`, which say nothing in the guest.
    pub options: Vec<String>,
    /// Whether what is mounted beneath the source comes with it (`rbind`).
    pub recursive: bool,
}

/// How `/dev/shm` is mounted by every caller that leaves it to the runtime.
const SHM_OPTIONS: [&str; 4] = ["nosuid", "nodev", "noexec", "mode=1777"];
/// Docker's and podman's own size of it, in bytes.
const SHM_SIZE: u64 = 64 << 20;

/// Where a host has its cgroups. Bound into a container that keeps cgroups of its own, as systemd does, it is the guest's
/// tree that is meant: there its processes are. The host's is out of its reach.
const CGROUPS: &str = "/sys/fs/cgroup";
/// As every cgroup file system is mounted.
const CGROUP_OPTIONS: [&str; 3] = ["nosuid", "nodev", "noexec"];

/// All mounts, in order.
///
/// # Errors
/// [`ConfigError::MountType`], [`ConfigError::BindSource`], [`ConfigError::MappedMount`]
pub fn mounts(mounts: &[OciMount]) -> Result<Vec<MountPlan>, ConfigError> {
    mounts.iter().enumerate().map(|(index, mount)| one(index, mount)).collect()
}

fn one(index: usize, mount: &OciMount) -> Result<MountPlan, ConfigError> {
    let destination = mount.destination().to_string_lossy().into_owned();
    let mut options = mount.options().clone().unwrap_or_default();
    let mapped = |maps: &Option<Vec<LinuxIdMapping>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    if mapped(mount.uid_mappings())
        || mapped(mount.gid_mappings())
        || options.iter().any(|word| matches!(word.as_str(), "idmap" | "ridmap"))
    {
        return Err(ConfigError::MappedMount { index, destination });
    }
    let binds = |option: &String| matches!(option.as_str(), "bind" | "rbind");
    let kind = mount.typ().as_deref().unwrap_or_default();
    if kind == "bind" || options.iter().any(binds) {
        // As runc: with neither word, the type alone binds one mount.
        let recursive = options.iter().any(|option| option == "rbind");
        options.retain(|option| !binds(option));
        return bind(index, mount, destination, options, recursive);
    }
    let filesystem = match kind {
        "tmpfs" | "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2" | "hugetlbfs" | "ramfs"
        | "bpf" => kind,
        "ext2" | "ext3" | "ext4" | "erofs" => return image(index, mount, destination, kind, options),
        _ => return Err(ConfigError::MountType { index, destination, filesystem: kind.into() }),
    };
    Ok(MountPlan::Ready(kernel(destination, filesystem, options)))
}

/// A `/dev/shm` of `size` bytes, or of the usual ones.
pub(super) fn shared_memory(destination: String, size: Option<u64>) -> Mount {
    let mut options = SHM_OPTIONS.map(str::to_owned).to_vec();
    options.push(format!("size={}", size.unwrap_or(SHM_SIZE)));
    kernel(destination, "tmpfs", options)
}

/// The memory that containers of a pod have together where the host has one at `source` for them.
pub(super) fn of_pod(source: &Path) -> MountSource {
    let hash = Sha256::digest(source.as_os_str().as_encoded_bytes());
    MountSource::Shared { name: hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect() }
}

fn bind(
    index: usize,
    mount: &OciMount,
    destination: String,
    options: Vec<String>,
    recursive: bool,
) -> Result<MountPlan, ConfigError> {
    if destination.trim_end_matches('/') == "/dev/shm" {
        // podman always does so; Docker with `--ipc=host` and `shareable`.
        return Ok(MountPlan::SharedMemory { destination, source: mount.source().clone() });
    }
    match mount.source() {
        Some(source) if source.components().eq(Path::new(CGROUPS).components()) => {
            let options = CGROUP_OPTIONS.map(str::to_owned).into_iter().chain(options).collect();
            Ok(MountPlan::Ready(kernel(destination, "cgroup", options)))
        }
        Some(source) if source.is_absolute() => {
            Ok(MountPlan::Bind(BindMount { destination, source: source.clone(), options, recursive }))
        }
        _ => Err(ConfigError::BindSource { index, destination }),
    }
}

fn image(
    index: usize,
    mount: &OciMount,
    destination: String,
    filesystem: &str,
    mut options: Vec<String>,
) -> Result<MountPlan, ConfigError> {
    options.retain(|option| option != "loop");
    let mut words = options.iter().filter_map(|option| match option.as_str() {
        "ro" | "rro" => Some(true),
        "rw" | "rrw" => Some(false),
        _ => None,
    });
    // The last word counts.
    let read_only = filesystem == "erofs" || words.next_back() == Some(true);
    match mount.source() {
        Some(source) if source.is_absolute() => {
            let (source, filesystem) = (source.clone(), filesystem.to_owned());
            Ok(MountPlan::Image(ImageMount { destination, source, filesystem, options, read_only }))
        }
        _ => Err(ConfigError::BindSource { index, destination }),
    }
}

fn kernel(destination: String, filesystem: &str, options: Vec<String>) -> Mount {
    Mount { destination, source: MountSource::Kernel { filesystem: filesystem.into() }, options }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(mount: serde_json::Value) -> Result<MountPlan, ConfigError> {
        one(0, &serde_json::from_value(mount).unwrap())
    }

    #[test]
    fn a_bind_mount_is_told_by_its_type_or_its_options() {
        for kind in ["bind", "none"] {
            let mount = json!({
                "destination": "/etc/hosts", "type": kind, "source": "/h", "options": ["rbind", "ro", "rprivate"],
            });
            let expected = BindMount {
                destination: "/etc/hosts".into(),
                source: "/h".into(),
                options: vec!["ro".into(), "rprivate".into()],
                recursive: true,
            };
            assert_eq!(plan(mount), Ok(MountPlan::Bind(expected)));
        }
    }

    #[test]
    fn an_image_is_read_only_by_its_last_word_or_its_type() {
        let read_only = |kind: &str, options: &[&str]| {
            let mount = json!({ "destination": "/d", "type": kind, "source": "/i", "options": options });
            let MountPlan::Image(image) = plan(mount).unwrap() else { panic!("no image") };
            assert!(!image.options.contains(&"loop".to_owned()));
            image.read_only
        };
        assert!(read_only("ext4", &["rw", "loop", "ro"]));
        assert!(!read_only("ext4", &["ro", "rw"]));
        assert!(!read_only("ext4", &[]));
        assert!(read_only("erofs", &[]));
    }

    #[test]
    fn what_can_not_be_mounted_is_refused() {
        let refused = plan(json!({ "destination": "/d", "type": "nfs", "source": "h:/" }));
        assert!(matches!(refused, Err(ConfigError::MountType { .. })));
        let refused = plan(json!({ "destination": "/d" }));
        assert!(matches!(refused, Err(ConfigError::MountType { .. })));
        let refused = plan(json!({ "destination": "/d", "type": "bind" }));
        assert!(matches!(refused, Err(ConfigError::BindSource { .. })));
        let map = json!([{ "hostID": 1, "containerID": 0, "size": 1 }]);
        let refused = plan(json!({ "destination": "/d", "type": "tmpfs", "uidMappings": map }));
        assert!(matches!(refused, Err(ConfigError::MappedMount { .. })));
        let refused =
            plan(json!({ "destination": "/d", "type": "bind", "source": "/s", "options": ["ridmap"] }));
        assert!(matches!(refused, Err(ConfigError::MappedMount { .. })));
    }

    #[test]
    fn shared_memory_is_the_guests() {
        let shm = plan(json!({ "destination": "/dev/shm", "type": "bind", "source": "/dev/shm" })).unwrap();
        let MountPlan::SharedMemory { destination, source } = shm else { panic!("not the guest's") };
        assert_eq!(source.as_deref(), Some(Path::new("/dev/shm")));
        let mount = shared_memory(destination, Some(16 << 20));
        assert_eq!(mount.source, MountSource::Kernel { filesystem: "tmpfs".into() });
        assert!(mount.options.contains(&"size=16777216".to_owned()));
    }

    #[test]
    fn cgroups_are_the_guests() {
        let bind = |source: &str| {
            plan(
                json!({ "destination": "/sys/fs/cgroup", "type": "bind", "source": source, "options": ["rbind", "rw"] }),
            )
        };
        let MountPlan::Ready(mount) = bind("/sys/fs/cgroup/").unwrap() else { panic!("the host's") };
        assert_eq!(mount.source, MountSource::Kernel { filesystem: "cgroup".into() });
        assert_eq!(mount.options, ["nosuid", "nodev", "noexec", "rw"]);
        assert!(matches!(bind("/sys/fs/cgroup/x"), Ok(MountPlan::Bind(_))));
    }
}
