//! Why a verb failed.

use std::{io, path::PathBuf};

use nix::errno::Errno;

use super::settings::LoadError;
use crate::{
    bundle::SpecError,
    config::ConfigError,
    host::{cgroup::CgroupError, hooks::HookError, pidfd::PidfdError},
    image::{BringBackError, ImageError},
    process::attach::AttachError,
    sandbox::{child::ChildError, control::ControlError},
    state::{BadId, StateError},
};

/// Each part's own error as it is, and what concerns no part alone.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The container's record: it does not exist, exists already, or is not what the verb needs.
    #[error(transparent)]
    State(#[from] StateError),
    /// The container's id.
    #[error(transparent)]
    Id(#[from] BadId),
    /// The bundle.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// What the bundle wants can't be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's settings.
    #[error(transparent)]
    Settings(#[from] LoadError),
    /// The disks.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What the container wrote.
    #[error(transparent)]
    BringBack(#[from] BringBackError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The VMM process.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A running container.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A process of a running container.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// `--pidfd-socket`
    #[error(transparent)]
    Pidfd(#[from] PidfdError),
    /// `--pid-file`
    #[error("The pid can't be written to {}", path.display())]
    PidFile {
        /// As given.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The root is not there.
    #[error("The root {} can't be opened", path.display())]
    Root {
        /// `root.path`
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// This host has no name that a container could share.
    #[error("The host's name can't be read")]
    Hostname(#[source] Errno),
    /// The VMM ended at once.
    #[error("The VMM process ended before it was ready")]
    EndedEarly,
    /// The VMM can't be sent a signal.
    #[error("The VMM, process {pid}, can't be killed")]
    Unkillable {
        /// Which process.
        pid: i32,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// The VMM was sent SIGKILL in vain.
    #[error("The VMM, process {pid}, was killed and does not end: is the host out of memory or I/O stuck?")]
    Stuck {
        /// Which process.
        pid: i32,
    },
    /// The disk with what the container wrote is safe, but not where it belongs.
    #[error("The disk is kept as {}", disk.display())]
    Kept {
        /// Where.
        disk: PathBuf,
        /// Why.
        #[source]
        source: BringBackError,
    },
    /// Disks that are of no use any more.
    #[error("The container's disks are left")]
    Left(#[source] ImageError),
    /// `exec` in a container that has ended.
    #[error("cannot exec in a stopped container")]
    ExecStopped,
    /// `exec` in a container that stands still.
    #[error("cannot exec in a paused container (use --ignore-paused to override)")]
    ExecPaused,
    /// A pod's container without its pod.
    #[error("The container's pod {sandbox} does not run, or its sandbox is not in a machine of this runtime")]
    NoPod {
        /// The id of its sandbox.
        sandbox: String,
    },
    /// An image has no directory to share.
    #[error("dev.msb.root=shared is for a root that is mounted on the host: leave it out")]
    SharedImage,
    /// A machine for one.
    #[error(
        "The network is that of container {sandbox}, which has its machine for itself: start that one with the annotation \
         dev.msb.pod=true (docker run --annotation dev.msb.pod=true), or put both containers into one network"
    )]
    NoPodOfThat {
        /// The id of the container whose network it is.
        sandbox: String,
    },
    /// Another network.
    #[error(
        "The container's network is another than its pod's, which is its machine's: give it the network namespace of the \
         pod's sandbox (/proc/PID/ns/net)"
    )]
    NotPodsNetwork,
    /// A namespace of somebody else's.
    #[error("The namespaces of process {pid} can't be joined: it stands for no container of this pod")]
    NotOfPod {
        /// Of `/proc/PID/ns/…`.
        pid: i32,
    },
    /// The list of what was lent is gone.
    #[error("What was lent to the container is not known any more")]
    NotLent,
}
