//! A pod as Kubernetes describes it to containerd: what this shim needs of `runtime.v1.PodSandboxConfig`.

use std::collections::BTreeMap;

use containerd_shim_protos::protobuf::{Error, well_known_types::any::Any};

use super::wire::Message;

/// The type's name, after whatever prefix.
const TYPE: &str = "runtime.v1.PodSandboxConfig";

/// `NamespaceMode.NODE`: that of the host.
const NODE: i64 = 2;

/// Why it can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not Kubernetes' interface asks.
    #[error("a sandbox is made of {TYPE}, as containerd's CRI plugin gives it, not of {given:?}")]
    Type {
        /// What was given.
        given: String,
    },
    /// It is not what its type says.
    #[error("the pod's configuration can't be understood")]
    Wire(#[from] Error),
}

/// The pod. Numbers in comments are the fields of its message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Config {
    /// `metadata` (1): its `name` (1).
    pub name: String,
    /// `uid` (2).
    pub uid: String,
    /// `namespace` (3), of Kubernetes.
    pub namespace: String,
    /// 2; empty: the host's.
    pub hostname: String,
    /// 4; none: the host's `resolv.conf`.
    pub dns: Option<Dns>,
    /// 7
    pub annotations: BTreeMap<String, String>,
    /// `linux` (8): its `cgroup_parent` (1).
    pub cgroup_parent: String,
    /// `sysctls` (3).
    pub sysctls: BTreeMap<String, String>,
    /// `security_context` (2), `namespace_options` (1): its `network` (1) is the host's.
    pub host_network: bool,
    /// Its `pid` (2).
    pub host_pid: bool,
    /// Its `ipc` (3).
    pub host_ipc: bool,
    /// `resources` (5): what its containers may take together, if that is told.
    pub resources: Option<Resources>,
}

/// `DNSConfig`
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Dns {
    /// 1
    pub servers: Vec<String>,
    /// 2
    pub searches: Vec<String>,
    /// 3
    pub options: Vec<String>,
}

/// `LinuxContainerResources`, as far as it says how large a machine is to be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resources {
    /// 1
    pub cpu_period: i64,
    /// 2
    pub cpu_quota: i64,
    /// 3
    pub cpu_shares: i64,
    /// 4
    pub memory: i64,
}

impl Config {
    /// Of a request's options.
    pub fn read(options: &Any) -> Result<Self, ConfigError> {
        if !options.type_url.ends_with(TYPE) {
            return Err(ConfigError::Type { given: options.type_url.clone() });
        }
        let message = Message::read(&options.value)?;
        let metadata = message.message(1)?.unwrap_or_default();
        let linux = message.message(8)?.unwrap_or_default();
        let security = linux.message(2)?.unwrap_or_default();
        let namespaces = security.message(1)?.unwrap_or_default();
        let dns = message.message(4)?.map(|dns| Dns {
            servers: dns.texts(1),
            searches: dns.texts(2),
            options: dns.texts(3),
        });
        let resources = linux.message(5)?.map(|resources| Resources {
            cpu_period: resources.number(1),
            cpu_quota: resources.number(2),
            cpu_shares: resources.number(3),
            memory: resources.number(4),
        });
        Ok(Self {
            name: metadata.text(1),
            uid: metadata.text(2),
            namespace: metadata.text(3),
            hostname: message.text(2),
            dns,
            annotations: message.map(7)?,
            cgroup_parent: linux.text(1),
            sysctls: linux.map(3)?,
            host_network: namespaces.number(1) == NODE,
            host_pid: namespaces.number(2) == NODE,
            host_ipc: namespaces.number(3) == NODE,
            resources,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_read_as_its_bytes_say() {
        // {metadata: {name: "n", uid: "u", namespace: "s"}, hostname: "h", dns_config: {servers: ["1.1.1.1"]},
        //  annotations: {"a": "b"}, linux: {cgroup_parent: "/c", security_context: {namespace_options: {pid: NODE}},
        //  resources: {memory_limit_in_bytes: 300}}}
        let value =
            b"\x0a\x09\x0a\x01n\x12\x01u\x1a\x01s\x12\x01h\x22\x09\x0a\x071.1.1.1\x3a\x06\x0a\x01a\x12\x01b\
                      \x42\x0f\x0a\x02/c\x12\x04\x0a\x02\x10\x02\x2a\x03\x20\xac\x02";
        let options = |kind: &str| Any { type_url: kind.into(), value: value.to_vec(), ..Any::default() };
        let config = Config::read(&options("runtime.v1.PodSandboxConfig")).unwrap();
        assert_eq!(
            (&*config.name, &*config.uid, &*config.namespace, &*config.hostname),
            ("n", "u", "s", "h")
        );
        assert_eq!(config.dns.unwrap().servers, ["1.1.1.1"]);
        assert_eq!(config.annotations, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(config.cgroup_parent, "/c");
        assert_eq!((config.host_network, config.host_pid, config.host_ipc), (false, true, false));
        assert_eq!(config.resources.unwrap().memory, 300);
        let refused = Config::read(&options("containerd.runc.v1.Options")).unwrap_err();
        assert!(refused.to_string().contains("containerd.runc.v1.Options"), "{refused}");
    }
}
