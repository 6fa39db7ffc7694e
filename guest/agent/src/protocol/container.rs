//! A container as the agent needs it: the OCI spec after every check and every decision of the host.

use serde::{Deserialize, Serialize};

use super::{
    Device, DeviceRule, GuestLimits, Joined, Namespace, Personality, StartHooks, TimeOffset, UserMap,
};

/// The container and its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its root file system.
    pub root: Root,
    /// `sethostname`, where the spec names one.
    pub hostname: Option<String>,
    /// `setdomainname`, where the spec names one.
    pub domainname: Option<String>,
    /// Namespaces made for it inside the guest.
    pub namespaces: Vec<Namespace>,
    /// Namespaces of other containers that it lives in.
    pub joined: Vec<Joined>,
    /// Of its user namespace; empty without one.
    pub user_map: UserMap,
    /// Of its time namespace; none without one.
    pub time_offsets: Vec<TimeOffset>,
    /// Propagation of its root mount (`linux.rootfsPropagation`), as an option of a mount: `rslave`, …
    pub propagation: Option<String>,
    /// What its processes are told of the machine.
    pub personality: Option<Personality>,
    /// Mounted in this order beneath the root.
    pub mounts: Vec<Mount>,
    /// Device nodes beyond the usual ones (null, zero, full, random, urandom, tty).
    pub devices: Vec<Device>,
    /// Every device that the guest has gets a node.
    pub all_devices: bool,
    /// Which devices may be opened and made: of the rules that speak of one, the last counts; of what none speaks, no.
    pub device_rules: Vec<DeviceRule>,
    /// Written before the first process starts.
    pub sysctls: Vec<Sysctl>,
    /// Hidden: directories under an empty tmpfs, files under `/dev/null`. What isn't there is skipped.
    pub masked_paths: Vec<String>,
    /// Made read-only. What isn't there is skipped.
    pub readonly_paths: Vec<String>,
    /// What it is held to from its first process on.
    pub limits: GuestLimits,
    /// Run in the container before the first process's `execve`.
    pub start_hooks: StartHooks,
    /// The first process.
    pub init: Process,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its files.
    pub source: RootSource,
    /// `root.readonly`: the container sees a read-only root (its mounts stay as they are).
    pub readonly: bool,
}

/// What holds a root's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSource {
    /// Disks of the machine.
    Disks {
        /// What the container begins with, the uppermost first, joined by overlayfs; at least one.
        layers: Vec<Layer>,
        /// Block device with an ext4 that holds what the container writes, named likewise.
        scratch: String,
    },
    /// A directory that the host shares live ([`VOLUMES_TAG`](super::VOLUMES_TAG)).
    Share {
        /// Its name at the top of the share.
        number: u32,
    },
}

/// A read-only file system of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Block device: `/dev/vda`, or the platform device of a disk that was put into the machine later: `virtio-mmio.12`.
    pub device: String,
    /// Its type: `erofs`, `ext4`.
    pub filesystem: String,
}

/// One entry of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; made if missing, never resolved out of the root.
    pub destination: String,
    /// What is mounted there.
    pub source: MountSource,
    /// As in the spec: flags (`ro`, `nosuid`, …), propagation (`rprivate`, …) and file system data (`size=64m`).
    pub options: Vec<String>,
}

/// Every word of a mount's options that the guest does not hand to the file system: what `features` tells callers. Since
/// `rro` is among them, Docker asks for it wherever it was told `ro`.
pub const MOUNT_OPTIONS: [&str; 63] = [
    "acl",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "notmpcopyup",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file system that the guest's kernel makes: `tmpfs`, `proc`, `sysfs`, `devpts`, `mqueue`, `cgroup`
    /// (which is version 2 without version 1's words), ….
    Kernel {
        /// Its type.
        filesystem: String,
    },
    /// A file system on a disk of the machine.
    Disk {
        /// Block device, named as those of a root: `/dev/vdc`.
        device: String,
        /// Its type: `ext4`, `erofs`.
        filesystem: String,
        /// Nothing can be written to the disk.
        read_only: bool,
    },
    /// A directory or a file that the host shares live ([`VOLUMES_TAG`](super::VOLUMES_TAG)).
    Volume {
        /// Its name at the top of the share.
        number: u32,
        /// Whether it is a directory.
        directory: bool,
    },
    /// Memory that containers of the guest have together: made with the first one's options, there until the guest's end.
    Shared {
        /// By which the others find it: letters and digits.
        name: String,
    },
    /// A regular file of the host, as it was when the container was created.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// One entry of `linux.sysctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// With dots, as in the spec.
    pub key: String,
    /// As written to the file.
    pub value: String,
}

/// A process of the container: the spec's `process`.
///
/// An exec gets what it leaves open (`None`) from the container's first process: `umask`, `capabilities`, `scheduler`,
/// `io_priority` and `cpu_affinity`. Its `oom_score_adj` is always that process's. Limits of resources that it does not
/// name are those of its caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Never empty; the first is looked up in `PATH` of `env` unless it holds a slash.
    pub args: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Absolute; made if missing for the first process.
    pub cwd: String,
    /// As whom.
    pub user: User,
    /// The five sets, each as names like `CAP_CHOWN`; `None`: none at all, for the first process.
    pub capabilities: Option<Capabilities>,
    /// `setrlimit`.
    pub rlimits: Vec<Rlimit>,
    /// `setrlimit` for what `rlimits` do not name: as a process of the host would have had it from whoever started it.
    pub inherited_rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// The container's: an exec always gets that of the first process.
    pub seccomp: Option<Seccomp>,
    /// `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The same, where the container's first process was given none: that of who started this one.
    pub inherited_oom_score_adj: Option<i32>,
    /// `sched_setattr`.
    pub scheduler: Option<Scheduler>,
    /// `ioprio_set`: class in the bits from 13 on, level below (`IOPRIO_PRIO_VALUE` of linux/ioprio.h).
    pub io_priority: Option<u16>,
    /// `sched_setaffinity`: numbers of processors. Only for an exec.
    pub cpu_affinity: Option<Vec<u16>>,
    /// A terminal of this first size (0×0: unset); without, three pipes.
    pub terminal: Option<TerminalSize>,
    /// Whether stdin comes by a stream; otherwise it is `/dev/null`. Ignored with a terminal.
    pub stdin: bool,
}

/// `process.user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
}

/// `process.capabilities`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: Vec<String>,
    /// Effective set.
    pub effective: Vec<String>,
    /// Permitted set.
    pub permitted: Vec<String>,
    /// Inheritable set.
    pub inheritable: Vec<String>,
    /// Ambient set.
    pub ambient: Vec<String>,
}

/// One entry of `process.rlimits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, …
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// `struct sched_attr` of linux/sched/types.h, without what belongs to no policy of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Of a realtime policy.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`, as the next two.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// A filter of system calls (seccomp(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// [`Self::FLAGS`] and no others.
    pub flags: u32,
    /// At least one and at most [`Self::MAX_PROGRAM`] instructions.
    pub program: Vec<Instruction>,
}

impl Seccomp {
    /// `BPF_MAXINSNS` of linux/bpf_common.h.
    pub const MAX_PROGRAM: usize = 4096;
    /// `SECCOMP_FILTER_FLAG_LOG` and `SECCOMP_FILTER_FLAG_SPEC_ALLOW` of linux/seccomp.h.
    pub const FLAGS: u32 = 0b110;
}

/// `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}
