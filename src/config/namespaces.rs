//! `linux.namespaces` → those that the guest makes, and the one that the host gives.
//!
//! A namespace that isn't asked for is the guest's own: with `--pid=host` the container sees the machine's
//! processes, never the host's.

use std::path::Path;

use msb_agent::protocol::Namespace;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType};

use super::{ConfigError, NetworkNamespace, Role};

/// A namespace that another container of the same pod has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its kind: `pid`, `ipc` or `uts`.
    pub namespace: Namespace,
    /// What that container's caller was told as its pid.
    pub pid: i32,
}

/// All namespaces of a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Namespaces {
    /// Made in the guest.
    pub made: Vec<Namespace>,
    /// Joined there: only for one in a pod.
    pub joined: Vec<Elsewhere>,
    /// The host's.
    pub network: NetworkNamespace,
}

/// Where the network namespace is that the container joins, if it does.
pub(super) fn network_path(linux: &Linux) -> Option<&Path> {
    let all = linux.namespaces().as_deref().unwrap_or_default().iter();
    let path =
        all.filter(|one| one.typ() == LinuxNamespaceType::Network).find_map(|one| one.path().as_deref());
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Those of the guest, and the network's.
///
/// # Errors
/// [`ConfigError::JoinedNamespace`], [`ConfigError::HostNetwork`]
pub(super) fn namespaces(linux: &Linux, role: &Role) -> Result<Namespaces, ConfigError> {
    let (mut guest, mut joined) = (Vec::new(), Vec::new());
    let mut network = None;
    for namespace in linux.namespaces().as_deref().unwrap_or_default() {
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        let made = match namespace.typ() {
            LinuxNamespaceType::Network => {
                network = Some(path.cloned().map_or(NetworkNamespace::New, NetworkNamespace::Existing));
                continue;
            }
            LinuxNamespaceType::User => Some(Namespace::User),
            LinuxNamespaceType::Time => Some(Namespace::Time),
            LinuxNamespaceType::Pid => Some(Namespace::Pid),
            LinuxNamespaceType::Ipc => Some(Namespace::Ipc),
            LinuxNamespaceType::Uts => Some(Namespace::Uts),
            LinuxNamespaceType::Cgroup => Some(Namespace::Cgroup),
            // The agent always makes it.
            LinuxNamespaceType::Mount => None,
        };
        match (path, made) {
            (None, made) => guest.extend(made),
            (Some(path), Some(kind @ (Namespace::Pid | Namespace::Ipc | Namespace::Uts)))
                if matches!(role, Role::Member(_)) =>
            {
                let pid = process(path, namespace.typ());
                let pid = pid.ok_or_else(|| ConfigError::JoinedNamespace { name: name(namespace) })?;
                joined.push(Elsewhere { namespace: kind, pid });
            }
            (Some(_), _) => return Err(ConfigError::JoinedNamespace { name: name(namespace) }),
        }
    }
    Ok(Namespaces { made: guest, joined, network: network.ok_or(ConfigError::HostNetwork)? })
}

/// Of `/proc/PID/ns/KIND`, the pid.
fn process(path: &Path, kind: LinuxNamespaceType) -> Option<i32> {
    let (pid, file) = path.to_str()?.strip_prefix("/proc/")?.split_once("/ns/")?;
    let right = matches!(
        (kind, file),
        (LinuxNamespaceType::Pid, "pid")
            | (LinuxNamespaceType::Ipc, "ipc")
            | (LinuxNamespaceType::Uts, "uts")
    );
    pid.parse().ok().filter(|pid| right && *pid > 0)
}

/// As in `linux.namespaces[].type`.
fn name(namespace: &LinuxNamespace) -> String {
    match namespace.typ() {
        LinuxNamespaceType::Mount => "mount".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decide_as(role: &Role, list: &Value) -> Result<Namespaces, ConfigError> {
        namespaces(&serde_json::from_value(json!({ "namespaces": list })).unwrap(), role)
    }

    fn decide(list: &Value) -> Result<(Vec<Namespace>, NetworkNamespace), ConfigError> {
        decide_as(&Role::Alone, list).map(|found| (found.made, found.network))
    }

    #[test]
    fn a_pods_container_lives_in_namespaces_of_its_pod() {
        let list = json!([
            {"type": "network", "path": "/proc/7/ns/net"}, {"type": "ipc", "path": "/proc/7/ns/ipc"},
            {"type": "uts", "path": "/proc/7/ns/uts"}, {"type": "pid", "path": "/proc/9/ns/pid"}, {"type": "mount"},
        ]);
        let found = decide_as(&Role::Member("a".into()), &list).unwrap();
        let expected = [(Namespace::Ipc, 7), (Namespace::Uts, 7), (Namespace::Pid, 9)];
        assert_eq!(found.joined, expected.map(|(namespace, pid)| Elsewhere { namespace, pid }));
        assert_eq!(found.network, NetworkNamespace::Existing("/proc/7/ns/net".into()));
        assert!(found.made.is_empty());
        assert!(decide_as(&Role::Sandbox, &list).is_err());
        for path in ["/proc/7/ns/ipc", "/proc/self/ns/pid", "/run/pid", "/proc/-1/ns/pid", "/proc/7/ns/pid/"]
        {
            let list = json!([{"type": "network"}, {"type": "pid", "path": path}]);
            assert!(decide_as(&Role::Member("a".into()), &list).is_err(), "{path}");
        }
    }

    #[test]
    fn the_network_is_the_hosts_matter() {
        assert_eq!(decide(&json!([])), Err(ConfigError::HostNetwork));
        let (guest, network) =
            decide(&json!([{"type": "network"}, {"type": "pid"}, {"type": "mount"}])).unwrap();
        assert_eq!((guest, network), (vec![Namespace::Pid], NetworkNamespace::New));
        let (_, network) = decide(&json!([{"type": "network", "path": "/run/netns/a"}])).unwrap();
        assert_eq!(network, NetworkNamespace::Existing("/run/netns/a".into()));
    }

    #[test]
    fn what_needs_the_hosts_kernel_is_refused_in_words_that_mean_no_exit_code() {
        let errors = [
            decide(&json!([{"type": "pid", "path": "/proc/7/ns/pid"}])).unwrap_err(),
            decide(&json!([{"type": "mount", "path": "/proc/7/ns/mnt"}])).unwrap_err(),
            decide(&json!([{"type": "user", "path": "/proc/7/ns/user"}])).unwrap_err(),
            decide(&json!([{"type": "pid"}])).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string().to_lowercase();
            for words in ["no such file", "permission denied", "is a directory", "executable file"] {
                assert!(!text.contains(words), "{text}");
            }
        }
    }
}
