//! The sandbox's own container: nothing but the pod's machine, network, names and memory to share. Its first process is the
//! guest's own ([`IDLE`]), so that no image is needed; it takes on what the pod's processes leave.

use std::path::Path;

use msb_agent::protocol::IDLE;
use serde_json::{Map, Value, json};

use super::config::Config;

/// Our annotations. containerd gives all that the pod has; those of the handler's `pod_annotations` it does not tell apart
/// here, and the host's settings have the last word anyway.
const OURS: &str = "dev.msb.";

/// As containerd sets them for every pod since 2.0, unless the pod does: a machine of its own has no ports to guard.
const SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// As runc's pods have it: the last to be ended for want of memory.
const OOM_SCORE: i32 = -998;

/// Whose pod it is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The sandbox's id.
    pub id: &'a str,
    /// Its network namespace; empty: none was made.
    pub network: &'a str,
    /// Its root, with nothing in it.
    pub root: &'a Path,
    /// What stands for the memory that its containers share.
    pub memory: &'a Path,
}

/// `config.json`.
pub fn config(pod: &Config, hostname: &str, place: &Place) -> Value {
    let mut namespaces = vec![json!({ "type": "mount" }), json!({ "type": "uts" })];
    namespaces.extend((!pod.host_ipc).then(|| json!({ "type": "ipc" })));
    namespaces.extend((!pod.host_pid).then(|| json!({ "type": "pid" })));
    if !pod.host_network {
        namespaces.push(json!({ "type": "network", "path": place.network }));
    }
    let mut sysctls: Map<String, Value> =
        SYSCTLS.map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect();
    sysctls.extend(pod.sysctls.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "args": IDLE,
            "cwd": "/",
            "user": { "uid": 0, "gid": 0 },
            "noNewPrivileges": true,
            "oomScoreAdj": OOM_SCORE,
        },
        "root": { "path": place.root, "readonly": true },
        "hostname": hostname,
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/shm", "type": "bind", "source": place.memory, "options": ["rbind", "rw"] },
        ],
        "annotations": annotations(pod, place.id),
        "linux": { "namespaces": namespaces, "sysctl": sysctls, "cgroupsPath": cgroup(&pod.cgroup_parent, place.id) },
    })
}

/// As containerd marks the container of a pod's sandbox.
fn annotations(pod: &Config, id: &str) -> Map<String, Value> {
    let ours = pod.annotations.iter().filter(|(name, _)| name.starts_with(OURS));
    let mut all: Vec<(String, String)> = ours.map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut kubernetes =
        |name: &str, value: &str| all.push((format!("io.kubernetes.cri.{name}"), value.to_owned()));
    kubernetes("container-type", "sandbox");
    kubernetes("sandbox-id", id);
    kubernetes("sandbox-name", &pod.name);
    kubernetes("sandbox-namespace", &pod.namespace);
    kubernetes("sandbox-uid", &pod.uid);
    if let Some(resources) = &pod.resources {
        kubernetes("sandbox-cpu-period", &resources.cpu_period.to_string());
        kubernetes("sandbox-cpu-quota", &resources.cpu_quota.to_string());
        kubernetes("sandbox-cpu-shares", &resources.cpu_shares.to_string());
        kubernetes("sandbox-memory", &resources.memory.to_string());
    }
    all.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// Where containerd would have the cgroup: beneath the pod's, or in the form that systemd takes.
fn cgroup(parent: &str, id: &str) -> Option<String> {
    let last = parent.rsplit('/').find(|part| !part.is_empty())?;
    Some(match last.ends_with(".slice") {
        true => format!("{last}:cri-containerd:{id}"),
        false => format!("{}/{id}", parent.trim_end_matches('/')),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use msb_runtime::bundle::Spec;
    use oci_spec::runtime as oci;

    use super::{super::config::Resources, *};

    fn made(pod: &Config) -> Spec {
        let place = Place {
            id: "abc",
            network: "/run/netns/x",
            root: Path::new("/b/pod/root"),
            memory: Path::new("/b/pod/shm"),
        };
        let spec: oci::Spec = serde_json::from_value(config(pod, "h", &place)).unwrap();
        Spec::check(spec, "/b/rootfs".into()).unwrap()
    }

    #[test]
    fn it_is_a_sandbox_of_kubernetes_as_large_as_its_pod() {
        let annotations = [("dev.msb.vcpus", "2"), ("else", "x")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let pod = Config {
            annotations: BTreeMap::from(annotations),
            resources: Some(Resources { memory: 1 << 28, ..Resources::default() }),
            ..Config::default()
        };
        let spec = made(&pod);
        let found = spec.annotations();
        let one = |name: &str| found.get(name).map(String::as_str);
        assert_eq!(one("io.kubernetes.cri.container-type"), Some("sandbox"));
        assert_eq!(one("io.kubernetes.cri.sandbox-memory"), Some("268435456"));
        assert_eq!((one("dev.msb.vcpus"), one("else")), (Some("2"), None));
        assert!(spec.root_readonly());
    }

    #[test]
    fn the_nodes_namespaces_are_not_made() {
        let kinds = |pod: &Config| -> Vec<String> {
            let spec = made(pod);
            let all = spec.linux().namespaces().as_deref().unwrap_or_default();
            all.iter().map(|one| one.typ().to_string()).collect()
        };
        assert_eq!(kinds(&Config::default()).len(), 5);
        let shared = Config { host_pid: true, host_ipc: true, host_network: true, ..Config::default() };
        assert_eq!(kinds(&shared), ["mnt", "uts"]);
    }

    #[test]
    fn a_cgroup_is_in_the_form_of_who_manages_them() {
        assert_eq!(cgroup("/kubepods/pod1/", "a").as_deref(), Some("/kubepods/pod1/a"));
        let slice = "/kubepods.slice/kubepods-pod1.slice";
        assert_eq!(cgroup(slice, "a").as_deref(), Some("kubepods-pod1.slice:cri-containerd:a"));
        assert_eq!(cgroup("", "a"), None);
    }
}
