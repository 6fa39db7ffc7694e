//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: what the host's own access control is to do.
//!
//! The guest's kernel has neither AppArmor nor SELinux. What callers put there by themselves keeps a container away from
//! the host, and from other containers, by names on the host's own files and processes: a machine of its own does more
//! than that, so these are accepted, and replaced by the machine. Whatever else somebody asks for by name is refused:
//! nothing here could hold it.

use oci_spec::runtime::Linux;

use super::ConfigError;
use crate::bundle::Process;

/// Profiles that callers use where the user names none.
const PROFILES: [&str; 6] = [
    "unconfined",
    "docker-default",
    "cri-containerd.apparmor.d",
    "crio-default",
    "nerdctl-default",
    "buildkit-default",
];

/// podman's, with the version of its library behind.
const PODMANS: &str = "containers-default-";

/// Types of processes (the label's third part) that callers and their policy (container-selinux) use by themselves.
const PROCESS_TYPES: [&str; 7] = [
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
    "container_runtime_t",
    "spc_t",
    "svirt_lxc_net_t",
];

/// Types of files, likewise.
const FILE_TYPES: [&str; 4] =
    ["container_file_t", "container_ro_file_t", "container_share_t", "svirt_sandbox_file_t"];

/// Accepts what the machine replaces.
///
/// # Errors
/// [`ConfigError::AppArmor`], [`ConfigError::SeLinux`]
pub fn check(process: &Process) -> Result<(), ConfigError> {
    let profile = process.apparmor_profile();
    if !(profile.is_empty() || PROFILES.contains(&profile) || profile.starts_with(PODMANS)) {
        return Err(ConfigError::AppArmor { profile: profile.into() });
    }
    label("process.selinuxLabel", process.selinux_label(), &PROCESS_TYPES)
}

/// The same for the label of the container's files.
///
/// # Errors
/// [`ConfigError::SeLinux`]
pub fn check_mounts(linux: &Linux) -> Result<(), ConfigError> {
    label("linux.mountLabel", linux.mount_label().as_deref().unwrap_or_default(), &FILE_TYPES)
}

/// A label is `user:role:type:level`.
fn label(field: &'static str, label: &str, types: &[&str]) -> Result<(), ConfigError> {
    let parts: Vec<&str> = label.splitn(4, ':').collect();
    match parts[..] {
        _ if label.is_empty() => Ok(()),
        [_, _, kind, ..] if types.contains(&kind) => Ok(()),
        _ => Err(ConfigError::SeLinux { field, label: label.into() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(field: &str, value: Value) -> Result<(), ConfigError> {
        let mut process = json!({ "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
        process[field] = value;
        check(&Process::check(serde_json::from_value(process).unwrap()).unwrap())
    }

    #[test]
    fn defaults_of_callers_are_taken_and_others_are_not() {
        for profile in
            ["", "unconfined", "docker-default", "containers-default-0.62.2", "cri-containerd.apparmor.d"]
        {
            assert_eq!(checked("apparmorProfile", profile.into()), Ok(()), "{profile}");
        }
        assert_eq!(checked("apparmorProfile", Value::Null), Ok(()));
        for profile in ["nosuch", "Docker-default", "docker-default-2", "docker-default//&mine"] {
            assert!(matches!(checked("apparmorProfile", profile.into()), Err(ConfigError::AppArmor { .. })));
        }
        for label in ["", "system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:spc_t:s0"] {
            assert_eq!(checked("selinuxLabel", label.into()), Ok(()), "{label}");
        }
        for label in ["container_t", "system_u:system_r:mine_t:s0", ":::"] {
            assert!(
                matches!(checked("selinuxLabel", label.into()), Err(ConfigError::SeLinux { .. })),
                "{label}"
            );
        }
    }

    #[test]
    fn labels_of_files() {
        let mut linux = Linux::default();
        for (label, fine) in [("system_u:object_r:container_file_t:s0:c1,c2", true), ("u:r:etc_t:s0", false)]
        {
            linux.set_mount_label(Some(label.into()));
            assert_eq!(check_mounts(&linux).is_ok(), fine, "{label}");
        }
    }
}
