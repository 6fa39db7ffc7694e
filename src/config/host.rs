//! What the host must lend the sandbox, as plain data.

use std::{path::PathBuf, time::Duration};

use oci_spec::runtime::{Hook as OciHook, Hooks as OciHooks, Linux, LinuxCpu, LinuxMemory, LinuxPids};
use serde::{Deserialize, Serialize};

use super::{ConfigError, NodeRule, nodes::nodes};
use crate::bundle::Spec;

/// The network namespace of the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// The caller's own (no `network` entry in `linux.namespaces`).
    Host,
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
    /// What else the caller wants run.
    pub hooks: Hooks,
    /// Device nodes that may appear in the root.
    pub nodes: Vec<NodeRule>,
}

/// The container's cgroup and its limits. Absent limits are left as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupConfig {
    /// `linux.cgroupsPath` as it stands: a path, or `slice:prefix:name` with systemd.
    pub path: Option<String>,
    /// `memory.limit` in bytes; -1: none.
    pub memory_limit: Option<i64>,
    /// `cpu.quota` in microseconds of each period; -1: none.
    pub cpu_quota: Option<i64>,
    /// `cpu.period` in microseconds.
    pub cpu_period: Option<u64>,
    /// `cpu.shares`
    pub cpu_shares: Option<u64>,
    /// `cpu.cpus`, as a list like `0-3,5`.
    pub cpus: Option<String>,
    /// `pids.limit`; -1: none. It counts the container's processes, which are the guest's matter.
    pub pids: Option<i64>,
}

/// `hooks`, by their moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// During create, in the caller's namespaces, when the network namespace exists.
    pub prestart: Vec<Hook>,
    /// During create, after `prestart`.
    pub create_runtime: Vec<Hook>,
    /// During create, after `createRuntime`; on the host, since the container's namespaces are the guest's.
    pub create_container: Vec<Hook>,
    /// After start.
    pub poststart: Vec<Hook>,
    /// After delete.
    pub poststop: Vec<Hook>,
}

/// What the configuration asks of the host.
pub(super) fn host(spec: &Spec, network: NetworkNamespace) -> Result<HostConfig, ConfigError> {
    if spec.hooks().is_some_and(|hooks| !list(hooks.start_container()).is_empty()) {
        return Err(ConfigError::StartContainerHook);
    }
    Ok(HostConfig {
        cgroup: cgroup(spec.linux())?,
        network,
        hooks: spec.hooks().map(hooks).unwrap_or_default(),
        nodes: nodes(spec.linux()),
    })
}

/// Zero means "not given" in every limit: Docker writes it so.
fn cgroup(linux: &Linux) -> Result<CgroupConfig, ConfigError> {
    let path = match linux.cgroups_path() {
        None => None,
        Some(path) => {
            let text = path.to_str().ok_or_else(|| ConfigError::CgroupsPath { path: path.clone() })?;
            (!text.is_empty()).then(|| text.to_owned())
        }
    };
    let Some(resources) = linux.resources() else { return Ok(CgroupConfig { path, ..Default::default() }) };
    let cpu = resources.cpu().as_ref();
    Ok(CgroupConfig {
        path,
        memory_limit: resources.memory().as_ref().and_then(LinuxMemory::limit).filter(|limit| *limit != 0),
        cpu_quota: cpu.and_then(LinuxCpu::quota).filter(|quota| *quota != 0),
        cpu_period: cpu.and_then(LinuxCpu::period).filter(|period| *period != 0),
        cpu_shares: cpu.and_then(LinuxCpu::shares).filter(|shares| *shares != 0),
        cpus: cpu.and_then(|cpu| cpu.cpus().clone()).filter(|cpus| !cpus.is_empty()),
        pids: resources.pids().as_ref().map(LinuxPids::limit).filter(|limit| *limit != 0),
    })
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
