//! `linux.namespaces` → those that the guest makes, and the one that the host gives.
//!
//! A namespace that isn't asked for is the guest's own: with `--pid=host` the container sees the machine's
//! processes, never the host's.

use msb_agent::protocol::Namespace;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType};

use super::{ConfigError, NetworkNamespace};

/// Those of the guest, and the network's.
///
/// # Errors
/// [`ConfigError::JoinedNamespace`], [`ConfigError::HostNetwork`]
pub fn namespaces(linux: &Linux) -> Result<(Vec<Namespace>, NetworkNamespace), ConfigError> {
    let mut guest = Vec::new();
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
        if path.is_some() {
            return Err(ConfigError::JoinedNamespace { name: name(namespace) });
        }
        guest.extend(made);
    }
    Ok((guest, network.ok_or(ConfigError::HostNetwork)?))
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

    fn decide(list: &Value) -> Result<(Vec<Namespace>, NetworkNamespace), ConfigError> {
        namespaces(&serde_json::from_value(json!({ "namespaces": list })).unwrap())
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
