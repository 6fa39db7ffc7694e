//! Whether a container is alone in its machine, or which part of a pod it is.
//!
//! Two ways lead into a pod. Docker's and podman's users give the first container `dev.msb.pod=true` and let others join
//! its network (`--network container:…`, `podman pod`); its machine is as large as its own limits ask for. Kubernetes'
//! callers say it in annotations:
//!
//! | annotation | meaning |
//! |---|---|
//! | `io.kubernetes.cri.container-type` | `sandbox`: the pod's first container, whose machine it is; `container`: one of the others |
//! | `io.kubernetes.cri.sandbox-id` | the id of the pod's first container |
//! | `io.kubernetes.cri.sandbox-memory` | what all of the pod's containers may take, in bytes; 0: not limited |
//! | `io.kubernetes.cri.sandbox-cpu-quota`, `…-cpu-period` | the same of processors, in microseconds |
//!
//! CRI-O's names for the first two mean the same.

use std::collections::BTreeMap;

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxCpu, LinuxMemory, LinuxResources};

use super::{ConfigError, Settings, Wishes, namespaces};

/// Each by containerd's name and by CRI-O's.
const KIND: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
const SANDBOX: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];
const MEMORY: &str = "io.kubernetes.cri.sandbox-memory";
const QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
const PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";

/// Slots of a pod's machine for the disks of its further containers: two or three for each.
pub const SPARE_DISKS: u8 = 32;

/// Which part of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Role {
    /// None: it has its machine for itself.
    #[default]
    Alone,
    /// The first, whose machine the pod's is.
    Sandbox,
    /// A further one, in the machine of this first one.
    Member(String),
}

impl Role {
    /// By the annotations of a container.
    ///
    /// # Errors
    /// [`ConfigError::NoSandbox`].
    fn of(annotations: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let either = |names: [&str; 2]| names.into_iter().find_map(|name| annotations.get(name));
        match either(KIND).map(String::as_str) {
            Some("sandbox") => Ok(Self::Sandbox),
            Some("container") => {
                let sandbox = either(SANDBOX).filter(|id| !id.is_empty());
                sandbox.cloned().map(Self::Member).ok_or(ConfigError::NoSandbox)
            }
            // A caller that names a kind of its own means no pod of these.
            Some(_) | None => Ok(Self::Alone),
        }
    }

    /// Whether it is part of a pod.
    #[must_use]
    pub fn is_in_pod(&self) -> bool {
        *self != Self::Alone
    }
}

/// Whether these annotations are of a further container in a pod of Kubernetes.
pub(super) fn is_member_of_kubernetes(annotations: &BTreeMap<String, String>) -> bool {
    matches!(Role::of(annotations), Ok(Role::Member(_)))
}

/// The role of a container with these annotations and wishes, on a host with `settings`. `sharing` says whose machine has
/// the network namespace at a path, if one has.
///
/// # Errors
/// [`ConfigError::NoSandbox`].
pub(super) fn role(
    annotations: &BTreeMap<String, String>,
    linux: &Linux,
    wishes: &Wishes,
    settings: &Settings,
    sharing: impl Fn(&Path) -> Option<String>,
) -> Result<Role, ConfigError> {
    let told = Role::of(annotations)?;
    if told.is_in_pod() {
        return Ok(told);
    }
    if let Some(first) = namespaces::network_path(linux).and_then(sharing) {
        return Ok(Role::Member(first));
    }
    // A shared root is asked for by name, the setting is for whom it fits.
    let takes_in = wishes.pod.unwrap_or(settings.machine.pods && !wishes.shared_root);
    Ok(if takes_in { Role::Sandbox } else { Role::Alone })
}

/// What the containers of a pod may take together, in the words of one container's limits: what the annotations say, or
/// else what the first container's `own` limits are.
pub(super) fn resources(
    annotations: &BTreeMap<String, String>,
    own: Option<&LinuxResources>,
) -> LinuxResources {
    // What can't be read limits nothing: these are hints of a size, and each container is held to its own limits.
    let number = |name: &str| annotations.get(name).and_then(|text| text.trim().parse::<i64>().ok());
    let mut resources = LinuxResources::default();
    resources.set_memory(own.and_then(|own| *own.memory())).set_cpu(own.and_then(|own| own.cpu().clone()));
    if annotations.contains_key(MEMORY) {
        let mut memory = LinuxMemory::default();
        memory.set_limit(number(MEMORY).filter(|bytes| *bytes > 0));
        resources.set_memory(Some(memory));
    }
    if annotations.contains_key(QUOTA) {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(number(QUOTA).filter(|quota| *quota > 0));
        let period = number(PERIOD).and_then(|period| u64::try_from(period).ok());
        cpu.set_period(period.filter(|period| *period > 0));
        resources.set_cpu(Some(cpu));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_part_of_a_pod_is_told_by_its_kind() {
        let role = |list: &[(&str, &str)]| Role::of(&annotations(list));
        assert_eq!(role(&[]), Ok(Role::Alone));
        assert_eq!(role(&[(SANDBOX[0], "a")]), Ok(Role::Alone));
        for names in [0, 1] {
            assert_eq!(role(&[(KIND[names], "sandbox"), (SANDBOX[names], "a")]), Ok(Role::Sandbox));
            let member = role(&[(KIND[names], "container"), (SANDBOX[names], "a")]);
            assert_eq!(member, Ok(Role::Member("a".into())));
            assert_eq!(role(&[(KIND[names], "container")]), Err(ConfigError::NoSandbox));
            assert!(is_member_of_kubernetes(&annotations(&[
                (KIND[names], "container"),
                (SANDBOX[names], "a")
            ])));
            assert!(!is_member_of_kubernetes(&annotations(&[(KIND[names], "sandbox")])));
        }
    }

    #[test]
    fn a_pods_size_is_what_its_containers_may_take_together() {
        let own: LinuxResources =
            serde_json::from_value(serde_json::json!({"memory": {"limit": 64}, "cpu": {"quota": 7}}))
                .unwrap();
        let resources = |list: &[(&str, &str)]| resources(&annotations(list), Some(&own));
        let found = resources(&[(MEMORY, "268435456"), (QUOTA, "150000"), (PERIOD, "100000")]);
        assert_eq!(found.memory().as_ref().unwrap().limit(), Some(256 << 20));
        let cpu = found.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        let none = resources(&[(MEMORY, "0"), (QUOTA, "-1"), (PERIOD, "much")]);
        assert_eq!(none.memory().as_ref().unwrap().limit(), None);
        assert_eq!(none.cpu().as_ref().unwrap().quota(), None);
        let own = resources(&[]);
        assert_eq!(own.memory().as_ref().unwrap().limit(), Some(64));
        assert_eq!(own.cpu().as_ref().unwrap().quota(), Some(7));
    }

    #[test]
    fn a_container_is_in_the_machine_whose_network_it_joins() {
        let linux = |path: Option<&str>| -> Linux {
            serde_json::from_value(serde_json::json!({"namespaces": [{"type": "network", "path": path}]}))
                .unwrap()
        };
        let pods = |pods| {
            let mut settings = Settings::default();
            settings.machine.pods = pods;
            settings
        };
        let sharing = |path: &Path| (path == Path::new("/proc/7/ns/net")).then(|| "a".to_owned());
        let role = |path: Option<&str>, wishes: &Wishes, settings: &Settings| {
            role(&BTreeMap::new(), &linux(path), wishes, settings, sharing).unwrap()
        };
        let (none, pod) = (Wishes::default(), Wishes { pod: Some(true), ..Wishes::default() });
        assert_eq!(role(None, &none, &pods(false)), Role::Alone);
        assert_eq!(role(Some("/run/netns/other"), &none, &pods(false)), Role::Alone);
        assert_eq!(role(Some("/proc/7/ns/net"), &pod, &pods(true)), Role::Member("a".into()));
        assert_eq!(role(None, &pod, &pods(false)), Role::Sandbox);
        assert_eq!(role(None, &none, &pods(true)), Role::Sandbox);
        assert_eq!(role(None, &Wishes { pod: Some(false), ..Wishes::default() }, &pods(true)), Role::Alone);
        assert_eq!(role(None, &Wishes { shared_root: true, ..Wishes::default() }, &pods(true)), Role::Alone);
    }
}
