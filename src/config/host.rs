//! What the host must lend the sandbox, as plain data.

use std::{path::PathBuf, time::Duration};

use msb_agent::protocol::{StartHook, StartHooks};
use oci_spec::runtime::{Hook as OciHook, Hooks as OciHooks, Linux};
use serde::{Deserialize, Serialize};

use super::{Bytes, ConfigError, Limits, Reach, Rights, Role, Room, Size};
use crate::bundle::Spec;

/// The network namespace of the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// A fresh, empty one.
    New,
    /// One that exists, by its path.
    Existing(PathBuf),
}

/// One entry of `hooks.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its arguments, the first being its name; may be empty.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    pub env: Vec<String>,
    /// How long it may take; no limit without.
    pub timeout: Option<Duration>,
}

/// All that the host lends one container, beside its image and its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Where the VMM sits.
    pub cgroup: CgroupConfig,
    /// Which network it has.
    pub network: NetworkNamespace,
    /// Whom it can reach there.
    pub reach: Reach,
    /// What else the caller wants run.
    pub hooks: Hooks,
    /// What may appear in the root.
    pub rights: Rights,
    /// How its limit of memory can change.
    pub room: Room,
}

/// The container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupConfig {
    /// `linux.cgroupsPath` as it stands: a path, or `slice:prefix:name` with systemd.
    pub path: Option<String>,
    /// What it is held to.
    pub limits: Limits,
}

/// `hooks`, by their moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// During create, in the caller's namespaces, when the network namespace exists.
    pub prestart: Vec<Hook>,
    /// During create, after `prestart`.
    pub create_runtime: Vec<Hook>,
    /// During create, after `createRuntime`; in the container's namespaces as far as the host has them, which is the
    /// network's. `startContainer` is the guest's ([`msb_agent::protocol::StartHooks`]).
    pub create_container: Vec<Hook>,
    /// After start.
    pub poststart: Vec<Hook>,
    /// After delete.
    pub poststop: Vec<Hook>,
}

/// What the configuration asks of the host for a machine of `size`, in which the guest itself needs `overhead`.
pub(super) fn host(
    spec: &Spec,
    role: &Role,
    size: Size,
    overhead: Bytes,
    network: NetworkNamespace,
    reach: Reach,
) -> Result<HostConfig, ConfigError> {
    Ok(HostConfig {
        cgroup: cgroup(spec.linux(), role, size)?,
        network,
        reach,
        hooks: spec.hooks().map(hooks).unwrap_or_default(),
        rights: Rights::of(spec)?,
        room: Room::of(size, overhead, spec.linux().resources().as_ref()),
    })
}

fn cgroup(linux: &Linux, role: &Role, size: Size) -> Result<CgroupConfig, ConfigError> {
    let path = match linux.cgroups_path() {
        None => None,
        Some(path) => {
            let text = path.to_str().ok_or_else(|| ConfigError::CgroupsPath { path: path.clone() })?;
            (!text.is_empty()).then(|| text.to_owned())
        }
    };
    // A further container of a pod is held to its limits inside the pod's machine, which is held to the pod's.
    let resources = linux.resources().as_ref().filter(|_| !matches!(role, Role::Member(_)));
    let limits = resources.map(|resources| Limits::of(resources, size)).transpose()?;
    Ok(CgroupConfig { path, limits: limits.unwrap_or_default() })
}

fn hooks(hooks: &OciHooks) -> Hooks {
    Hooks {
        prestart: list(hooks.prestart()),
        create_runtime: list(hooks.create_runtime()),
        create_container: list(hooks.create_container()),
        poststart: list(hooks.poststart()),
        poststop: list(hooks.poststop()),
    }
}

/// `hooks.startContainer`, whose state is the caller's to fill in.
pub(super) fn start_hooks(spec: &Spec) -> StartHooks {
    let all = spec.hooks().map(|hooks| list(hooks.start_container())).unwrap_or_default();
    let guests = |hook: Hook| StartHook {
        path: hook.path.to_string_lossy().into_owned(),
        args: hook.args,
        env: hook.env,
        timeout: hook.timeout,
    };
    StartHooks { hooks: all.into_iter().map(guests).collect(), state: Default::default() }
}

fn list(hooks: &Option<Vec<OciHook>>) -> Vec<Hook> {
    let plain = |hook: &OciHook| Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        // Positive: checked.
        timeout: hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    };
    hooks.iter().flatten().map(plain).collect()
}
