//! Which device nodes a container may make: what `linux.resources.devices` says about `m`.

use oci_spec::runtime::{Linux, LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

/// Nodes that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRule {
    /// Block devices; otherwise character devices.
    pub block: bool,
    /// All, if none.
    pub major: Option<u32>,
    /// All, if none.
    pub minor: Option<u32>,
}

/// The rules in force after the whole list, of which later entries override earlier ones. Nothing is allowed at first.
pub(super) fn nodes(linux: &Linux) -> Vec<NodeRule> {
    let mut rules = Vec::new();
    let list = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    for entry in list.into_iter().flatten().filter(|entry| makes(entry)) {
        for rule in meant(entry) {
            // A narrow no inside of a broad yes can't be said here: the broad yes goes, which errs on the safe side.
            if !entry.allow() {
                rules.retain(|old| !overlap(*old, rule));
            } else if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

/// Whether an entry is about making nodes; without `access` it is about everything.
fn makes(entry: &LinuxDeviceCgroup) -> bool {
    entry.access().as_ref().is_none_or(|access| access.is_empty() || access.contains('m'))
}

fn meant(entry: &LinuxDeviceCgroup) -> Vec<NodeRule> {
    // Negative numbers are wildcards, as absent ones.
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let (major, minor) = (number(entry.major()), number(entry.minor()));
    let kinds: &[bool] = match entry.typ() {
        None | Some(LinuxDeviceType::A) => &[false, true],
        Some(LinuxDeviceType::B) => &[true],
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[false],
        Some(LinuxDeviceType::P) => &[],
    };
    kinds.iter().map(|block| NodeRule { block: *block, major, minor }).collect()
}

fn overlap(one: NodeRule, other: NodeRule) -> bool {
    let meet = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    one.block == other.block && meet(one.major, other.major) && meet(one.minor, other.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(devices: &str) -> Vec<NodeRule> {
        nodes(&serde_json::from_str(&format!(r#"{{"resources":{{"devices":{devices}}}}}"#)).unwrap())
    }

    const ANY: [NodeRule; 2] = [
        NodeRule { block: false, major: None, minor: None },
        NodeRule { block: true, major: None, minor: None },
    ];

    #[test]
    fn dockers_default_allows_all_to_be_made() {
        let docker = r#"[{"allow":false,"access":"rwm"},
            {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"},
            {"allow":true,"type":"c","access":"m"},{"allow":true,"type":"b","access":"m"}]"#;
        let one = NodeRule { block: false, major: Some(1), minor: Some(5) };
        assert_eq!(of(docker), [&[one], &ANY[..]].concat());
    }

    #[test]
    fn later_entries_win() {
        assert_eq!(of("[]"), []);
        assert_eq!(of(r#"[{"allow":true}]"#), ANY);
        assert_eq!(of(r#"[{"allow":true,"access":"rw"}]"#), []);
        assert_eq!(of(r#"[{"allow":true},{"allow":false,"type":"b","major":8,"access":"m"}]"#), ANY[..1]);
        assert_eq!(of(r#"[{"allow":true},{"allow":false,"access":"rwm"}]"#), []);
    }
}
