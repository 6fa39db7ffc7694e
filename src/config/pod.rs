//! Whether a container is alone in its machine, or which part of a pod it is: what Kubernetes' callers say in annotations.
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

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::ConfigError;

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
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
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

/// What the containers of a pod may take together, in the words of one container's limits.
pub(super) fn resources(annotations: &BTreeMap<String, String>) -> LinuxResources {
    // What can't be read limits nothing: these are hints of a size, and each container is held to its own limits.
    let number = |name: &str| annotations.get(name).and_then(|text| text.trim().parse::<i64>().ok());
    let mut memory = LinuxMemory::default();
    memory.set_limit(number(MEMORY).filter(|bytes| *bytes > 0));
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(number(QUOTA).filter(|quota| *quota > 0));
    cpu.set_period(number(PERIOD).and_then(|period| u64::try_from(period).ok()).filter(|period| *period > 0));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory)).set_cpu(Some(cpu));
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
        }
    }

    #[test]
    fn a_pods_size_is_what_its_containers_may_take_together() {
        let found = resources(&annotations(&[(MEMORY, "268435456"), (QUOTA, "150000"), (PERIOD, "100000")]));
        assert_eq!(found.memory().as_ref().unwrap().limit(), Some(256 << 20));
        let cpu = found.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        let none = resources(&annotations(&[(MEMORY, "0"), (QUOTA, "-1"), (PERIOD, "much")]));
        assert_eq!(none.memory().as_ref().unwrap().limit(), None);
        assert_eq!(none.cpu().as_ref().unwrap().quota(), None);
    }
}
