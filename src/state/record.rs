//! What is kept of a container.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Id, Process};

/// Version of [`Record`]; raised when a reader of the old one would be misled.
pub const VERSION: u32 = 1;

/// `state.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: Id,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// The process that stands for the container on the host: the VMM, or in a pod what relays one container's streams.
    pub vmm: Process,
    /// What was done last.
    pub stage: Stage,
    /// When create began, RFC 3339.
    pub created: String,
    /// `annotations` of the configuration.
    pub annotations: BTreeMap<String, String>,
    /// Whether `--systemd-cgroup` was given to create; later calls may leave it out.
    pub systemd_cgroup: bool,
    /// Whether the container's first process has a terminal.
    pub terminal: bool,
    /// User id of the caller.
    pub owner: u32,
    /// Whose machine it is in, for a further container of a pod.
    #[serde(default)]
    pub pod: Option<Pod>,
    /// Whether its machine takes in further containers.
    #[serde(default)]
    pub takes_in: bool,
}

/// A container's place in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// The pod's first container.
    pub sandbox: Id,
    /// What the guest calls this one's first process.
    pub process: u32,
}

/// How far a container has been brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The VMM exists; hooks and the boot are under way.
    Creating,
    /// The first process waits for `start`.
    Created,
    /// `start` was called.
    Running,
    /// `pause` is under way, or was killed: whether the container stands still is not known, nor whether all is in its root.
    Pausing,
    /// `pause` was called after it.
    Paused,
}

/// What a container is at this moment, in the specification's words (runtime.md, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Waits for `start`.
    Created,
    /// Runs.
    Running,
    /// Stands still, as runc has it; the specification leaves such states to the runtime.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl Record {
    /// Of a container that is this process, for tests.
    #[cfg(test)]
    pub(crate) fn sample(id: &Id, stage: Stage) -> Self {
        Self {
            version: VERSION,
            oci_version: "1.2.0".into(),
            id: id.clone(),
            bundle: "/bundle".into(),
            rootfs: "/bundle/rootfs".into(),
            vmm: Process::of(std::process::id().cast_signed()).unwrap(),
            stage,
            created: "2026-01-01T00:00:00Z".into(),
            annotations: BTreeMap::new(),
            systemd_cgroup: false,
            terminal: false,
            owner: 0,
            pod: None,
            takes_in: false,
        }
    }

    /// The stage, unless the VMM is gone.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.stage {
            _ if !self.vmm.is_alive() => Status::Stopped,
            Stage::Creating => Status::Creating,
            Stage::Created => Status::Created,
            Stage::Running => Status::Running,
            Stage::Pausing | Stage::Paused => Status::Paused,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}
