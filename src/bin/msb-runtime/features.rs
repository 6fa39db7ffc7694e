//! `features`: true to what is built, nothing more.

use std::process::ExitCode;

use clap::Args;
use msb_agent::protocol::MOUNT_OPTIONS;
use serde_json::{Value, json};

use crate::{args::SPEC_VERSION, show};

/// Print what this runtime can do as JSON.
#[derive(Debug, Args)]
pub struct Features {}

/// `linux.namespaces[].type`: every one that Linux has.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// `linux.seccomp.syscalls[].action`: all but `SCMP_ACT_NOTIFY`.
const SECCOMP_ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// `linux.seccomp.syscalls[].args[].op`
const SECCOMP_OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// What programs of the machine's kernel can be made for. x32 is one that may be listed; the kernel has none.
const SECCOMP_ARCHITECTURES: &[&str] = if cfg!(target_arch = "x86_64") {
    &["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]
} else {
    &["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"]
};

/// `linux.seccomp.flags`
const SECCOMP_FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];

impl Features {
    /// Prints it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        println!("{}", show::pretty(&features()));
        Ok(ExitCode::SUCCESS)
    }
}

/// The features object (OCI runtime-spec, features.md).
fn features() -> Value {
    let mut capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    capabilities.sort_unstable();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS.as_slice(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": SECCOMP_ACTIONS,
                "operators": SECCOMP_OPERATORS,
                "archs": SECCOMP_ARCHITECTURES,
                "knownFlags": SECCOMP_FLAGS,
                "supportedFlags": SECCOMP_FLAGS,
            },
            "apparmor": { "enabled": false },
            "selinux": { "enabled": false },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } },
            "netDevices": { "enabled": false },
        },
        "annotations": { "org.microsandbox.version": env!("CARGO_PKG_VERSION") },
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxNamespaceType;

    use super::*;

    #[test]
    fn it_is_the_specifications_type() {
        let features: oci_spec::runtime::Features = serde_json::from_value(features()).unwrap();
        assert_eq!(features.oci_version_max(), SPEC_VERSION);
    }

    /// What `config` takes.
    #[test]
    fn namespaces_and_mount_options_are_told_whole() {
        let features = features();
        for kind in NAMESPACES {
            let namespace = serde_json::from_value::<LinuxNamespaceType>(json!(kind));
            assert!(namespace.is_ok(), "{kind}");
        }
        assert_eq!(features["linux"]["namespaces"], json!(NAMESPACES));
        // The agent's own test compares the list with what it parses.
        assert_eq!(features["mountOptions"], json!(MOUNT_OPTIONS.as_slice()));
        assert!(MOUNT_OPTIONS.is_sorted() && MOUNT_OPTIONS.contains(&"rrelatime"));
    }
}
