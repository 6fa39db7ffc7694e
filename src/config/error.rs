//! What a valid configuration can ask that a machine of its own can't give.
//!
//! Docker turns some words of an error text into the exit codes 126 and 127, which mean the container's command.
//! None of the texts here holds them.

use std::path::PathBuf;

use super::{Bytes, SeccompError, Settings};

/// Why a container can't be had as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A pod's container without its pod.
    #[error(
        "The container is one of a pod's and does not say of which: set the annotation io.kubernetes.cri.sandbox-id to the \
         id of the pod's sandbox"
    )]
    NoSandbox,
    /// A pod's containers have a machine together, and what is for one machine is the sandbox's to ask for.
    #[error(
        "The annotation {name} is for a machine, which the containers of a pod have together: put it on the pod's sandbox"
    )]
    OfMachine {
        /// `dev.msb.vcpus`, …
        name: &'static str,
    },
    /// A root that is shared live in a pod.
    #[error("dev.msb.root=shared is for a container that has its machine for itself: leave it out in a pod")]
    SharedInPod,
    /// A namespace of another container or of the host.
    #[error(
        "The {name} namespace of another container can't be joined: each container, or pod, has a kernel of its own. \
         Remove linux.namespaces[].path (--{name}=container:…), or join that container's network too and start it with \
         the annotation dev.msb.pod=true"
    )]
    JoinedNamespace {
        /// `pid`, `ipc`, …
        name: String,
    },
    /// The host's network, which has no end at which a machine could be plugged in.
    #[error(
        "The host's own network can't be given to a machine: use a network of its own and publish its ports \
         (--network bridge -p …), or none (--network none)"
    )]
    HostNetwork,
    /// Mappings of users that can't be.
    #[error("linux.uidMappings and linux.gidMappings: {problem}")]
    UserMapping {
        /// Which rule.
        problem: &'static str,
    },
    /// `linux.timeOffsets`
    #[error("linux.timeOffsets {clock:?}: {problem}")]
    TimeOffset {
        /// As given.
        clock: String,
        /// Which rule.
        problem: &'static str,
    },
    /// `linux.personality.flags`
    #[error("linux.personality: there are no flags, remove them")]
    Personality,
    /// A parameter of the kernel that the container does not have for itself.
    #[error("linux.sysctl {key}: {problem}")]
    Sysctl {
        /// As given.
        key: String,
        /// Which rule.
        problem: &'static str,
    },
    /// `linux.rootfsPropagation`
    #[error(
        "linux.rootfsPropagation {word:?} means nothing: use private, shared, slave, unbindable or one of them with r"
    )]
    Propagation {
        /// As given.
        word: String,
    },
    /// A name without a namespace for it.
    #[error("{field} needs a uts namespace: add one, or remove it")]
    HostName {
        /// `hostname` or `domainname`.
        field: &'static str,
    },
    /// Something that is the host's alone, or no kernel's of ours.
    #[error("linux.{field} is not supported: {reason}. Remove it")]
    HostOnly {
        /// Its name.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A device that only the host has.
    #[error(
        "linux.devices: {path} ({kind} {major}:{minor}) is a device of the host, and a machine has devices of its own: \
         give its contents as a volume"
    )]
    HostDevice {
        /// In the container.
        path: String,
        /// `b` or `c`.
        kind: char,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A file system that is neither made in the guest nor a bind mount.
    #[error(
        "mounts[{index}]: {destination} can't have type {filesystem:?}: \
         use bind, tmpfs, proc, sysfs, devpts, mqueue or cgroup"
    )]
    MountType {
        /// Which one.
        index: usize,
        /// Where it goes.
        destination: String,
        /// As given.
        filesystem: String,
    },
    /// A bind mount with nothing to bind.
    #[error("mounts[{index}]: the bind mount {destination} needs an absolute source")]
    BindSource {
        /// Which one.
        index: usize,
        /// Where it goes.
        destination: String,
    },
    /// A mount with mapped ids.
    #[error(
        "mounts[{index}]: id-mapped mounts are not supported: remove uidMappings, gidMappings, idmap and ridmap of \
         {destination}"
    )]
    MappedMount {
        /// Which one.
        index: usize,
        /// Where it goes.
        destination: String,
    },
    /// `linux.resources.cpu.cpus` is no list of processors.
    #[error("linux.resources.cpu.cpus {text:?} is no list of processors: write it like 0-3,5")]
    CpuList {
        /// As given.
        text: String,
    },
    /// Swap counts memory too.
    #[error(
        "linux.resources.memory.swap of {both} bytes is memory and swap together: give at least the limit of {memory}"
    )]
    Swap {
        /// `limit`
        memory: i64,
        /// `swap`
        both: i64,
    },
    /// Huge pages of a size that isn't, or less than none.
    #[error(
        "linux.resources.hugepageLimits: {limit} bytes of {page_size:?} can't be: give a pageSize such as 2MB and a \
         limit of at least 0"
    )]
    HugePages {
        /// As given.
        page_size: String,
        /// As given.
        limit: i64,
    },
    /// More memory than a machine may have.
    #[error(
        "linux.resources.memory.limit of {bytes} bytes is more than a machine may have: stay below {most}, or raise \
         machine.max-memory in {}",
        Settings::PATH
    )]
    MemoryLimit {
        /// As given.
        bytes: i64,
        /// With the guest's own part.
        most: Bytes,
    },
    /// More memory than a running machine has.
    #[error(
        "linux.resources.memory.limit of {bytes} bytes is more than this container's machine has room for: up to {most} \
         can be had while it runs. For more, create it anew with a larger limit or the annotation dev.msb.memory"
    )]
    Room {
        /// As given.
        bytes: i64,
        /// The largest.
        most: Bytes,
    },
    /// An annotation of ours with a value that can't be had.
    #[error("The annotation {name} can't be {text:?}: give {expected}")]
    AnnotationValue {
        /// As given.
        name: String,
        /// As given.
        text: String,
        /// What could be given.
        expected: String,
    },
    /// An annotation with our prefix that means nothing.
    #[error("There is no annotation {name:?}: those that begin with dev.msb. are listed in the README")]
    UnknownAnnotation {
        /// As given.
        name: String,
    },
    /// An annotation of ours that this host does not allow.
    #[error(
        "The annotation {name} is not allowed on this host: add {short:?} to annotations in {}",
        Settings::PATH
    )]
    ForbiddenAnnotation {
        /// As given.
        name: String,
        /// Without its prefix.
        short: String,
    },
    /// A block device that can't be.
    #[error("linux.resources.blockIO: there is no device {major}:{minor}")]
    Device {
        /// As given.
        major: i64,
        /// As given.
        minor: i64,
    },
    /// A key of `linux.resources.unified` that is no file of a controller.
    #[error("linux.resources.unified: {file:?} is no file of a cgroup controller: write it like memory.high")]
    Unified {
        /// As given.
        file: String,
    },
    /// `linux.seccomp`
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// `process.apparmorProfile` is none that callers use by themselves.
    #[error(
        "The AppArmor profile {profile:?} can't be applied: the machine's kernel has no AppArmor. Remove \
         process.apparmorProfile, or use \"unconfined\" (--security-opt apparmor=unconfined): the machine is the wall"
    )]
    AppArmor {
        /// As given.
        profile: String,
    },
    /// A label of SELinux with a type that is none that callers use by themselves.
    #[error(
        "The SELinux label {label:?} can't be applied: the machine's kernel has no SELinux. Remove {field}, or use \
         the usual types (--security-opt label=disable): the machine is the wall"
    )]
    SeLinux {
        /// `process.selinuxLabel` or `linux.mountLabel`.
        field: &'static str,
        /// As given.
        label: String,
    },
    /// `process.scheduler.policy`
    #[error(
        "process.scheduler.policy can't be SCHED_ISO: no Linux kernel has it. Use SCHED_RR or SCHED_BATCH"
    )]
    SchedulerIso,
    /// `process.execCPUAffinity.final`
    #[error(
        "process.execCPUAffinity.final {text:?} is no list of processors: write it like 0-3,5, with numbers below 1024"
    )]
    ExecCpuList {
        /// As given.
        text: String,
    },
    /// `linux.cgroupsPath` is not UTF-8.
    #[error("linux.cgroupsPath {} is not valid text", path.display())]
    CgroupsPath {
        /// As given.
        path: PathBuf,
    },
}
