//! `linux.devices` and `linux.resources.devices` → the nodes of the guest, and what the container may do with them.
//!
//! Numbers mean the guest's devices, never the host's. A character device with a number that is the same on every Linux
//! (`/dev/fuse`, `/dev/net/tun`) is the guest's own of that kind. What only the host has can't be given: its disks, and
//! whatever has a number by chance. A container that may use all devices (`--privileged`) is given all of the guest.

use msb_agent::protocol::{Device, DeviceAccess, DeviceKind, DeviceRule, allow_all};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::ConfigError;

/// Nodes that every container has anyway.
const USUAL: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Block devices whose numbers are the same everywhere: RAM disks and loop devices (kernel, `devices.txt`).
const KNOWN_BLOCKS: [u32; 2] = [1, 7];

/// Majors of character devices that are given out by chance (kernel, `devices.txt`, "RESERVED FOR DYNAMIC ASSIGNMENT").
const BY_CHANCE: [std::ops::RangeInclusive<u32>; 2] = [234..=254, 384..=511];

/// What runc allows whatever the list says: nodes of every kind may be made, and the usual devices, terminals and
/// `/dev/ptmx` used. Kind, major, minor, access.
const ALWAYS: [(DeviceKind, Option<u32>, Option<u32>, DeviceAccess); 10] = [
    (DeviceKind::Char, None, None, DeviceAccess::MAKE),
    (DeviceKind::Block, None, None, DeviceAccess::MAKE),
    (DeviceKind::Char, Some(1), Some(3), DeviceAccess::ALL),
    (DeviceKind::Char, Some(1), Some(8), DeviceAccess::ALL),
    (DeviceKind::Char, Some(1), Some(7), DeviceAccess::ALL),
    (DeviceKind::Char, Some(5), Some(0), DeviceAccess::ALL),
    (DeviceKind::Char, Some(1), Some(5), DeviceAccess::ALL),
    (DeviceKind::Char, Some(1), Some(9), DeviceAccess::ALL),
    (DeviceKind::Char, Some(136), None, DeviceAccess::ALL),
    (DeviceKind::Char, Some(5), Some(2), DeviceAccess::ALL),
];

/// Nodes, whether there are all, and rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Devices {
    /// Those that are named.
    pub nodes: Vec<Device>,
    /// Every one that the guest has.
    pub all: bool,
    /// In their order.
    pub rules: Vec<DeviceRule>,
}

/// What the guest gets.
///
/// # Errors
/// [`ConfigError::HostDevice`].
pub(super) fn devices(linux: &Linux) -> Result<Devices, ConfigError> {
    let rules = rules(linux);
    let all = allow_all(&rules);
    let mut nodes = Vec::new();
    for device in linux.devices().iter().flatten().filter_map(node) {
        if is_known(&device) {
            nodes.push(device);
        } else if !all {
            let Device { path, kind, major, minor, .. } = device;
            let kind = if kind == DeviceKind::Block { 'b' } else { 'c' };
            return Err(ConfigError::HostDevice { path, kind, major, minor });
        }
    }
    if all {
        // The caller lists what its host has.
        nodes.retain(|device| device.kind == DeviceKind::Fifo);
    }
    Ok(Devices { nodes, all, rules })
}

/// Whether its numbers mean the same everywhere.
fn is_known(device: &Device) -> bool {
    match device.kind {
        DeviceKind::Block => KNOWN_BLOCKS.contains(&device.major),
        DeviceKind::Char => !BY_CHANCE.iter().any(|majors| majors.contains(&device.major)),
        DeviceKind::Fifo => true,
    }
}

/// A node that is not there anyway. Types and numbers were checked.
fn node(device: &LinuxDevice) -> Option<Device> {
    let path = device.path().to_str().filter(|path| !USUAL.contains(path))?;
    Some(Device {
        path: path.to_owned(),
        kind: match device.typ() {
            LinuxDeviceType::A => return None,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::P => DeviceKind::Fifo,
        },
        major: u32::try_from(device.major()).ok()?,
        minor: u32::try_from(device.minor()).ok()?,
        // As runc where the mode is left out; the type's bits are not part of it.
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or_default(),
        gid: device.gid().unwrap_or_default(),
    })
}

/// The whole list, the last word being runc's. What no rule speaks of is denied.
fn rules(linux: &Linux) -> Vec<DeviceRule> {
    let list = linux.resources().as_ref().and_then(|resources| resources.devices().as_ref());
    let mut rules: Vec<DeviceRule> = list.into_iter().flatten().filter_map(rule).collect();
    rules.extend(ALWAYS.map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }));
    rules
}

/// Negative numbers are wildcards, as absent ones; without `access` everything is meant.
fn rule(entry: &LinuxDeviceCgroup) -> Option<DeviceRule> {
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let bit = |letter| match letter {
        'r' => DeviceAccess::READ.bits(),
        'w' => DeviceAccess::WRITE.bits(),
        'm' => DeviceAccess::MAKE.bits(),
        _ => 0,
    };
    let access = entry.access().as_deref().filter(|letters| !letters.is_empty());
    Some(DeviceRule {
        allow: entry.allow(),
        kind: match entry.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(DeviceKind::Block),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(DeviceKind::Char),
            // No driver: nothing to ask.
            Some(LinuxDeviceType::P) => return None,
        },
        major: number(entry.major()),
        minor: number(entry.minor()),
        access: access.map_or(DeviceAccess::ALL, |letters| {
            DeviceAccess::from_bits(letters.chars().map(bit).fold(0, |all, bit| all | bit))
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(linux: Value) -> Result<Devices, ConfigError> {
        devices(&serde_json::from_value(linux).unwrap())
    }

    #[test]
    fn rules_keep_their_order_and_runc_has_the_last_word() {
        let found = of(json!({"resources": {"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"},
            {"allow": false, "type": "b", "major": 7},
        ]}}))
        .unwrap();
        let rule = |allow, kind, major, access| DeviceRule { allow, kind, major, minor: None, access };
        let read_write = DeviceAccess::from_bits(DeviceAccess::READ.bits() | DeviceAccess::WRITE.bits());
        assert_eq!(
            found.rules[..3],
            [
                rule(false, None, None, DeviceAccess::ALL),
                rule(true, Some(DeviceKind::Char), Some(10), read_write),
                rule(false, Some(DeviceKind::Block), Some(7), DeviceAccess::ALL),
            ]
        );
        assert_eq!(found.rules.len(), 3 + ALWAYS.len());
        assert!(!found.all);
        assert_eq!(of(json!({})).unwrap().rules.len(), ALWAYS.len());
    }

    #[test]
    fn who_may_use_all_devices_has_the_guests() {
        let disk = json!({"path": "/dev/sda", "type": "b", "major": 8, "minor": 0});
        let fuse = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229});
        let found = of(json!({
            "devices": [disk, fuse], "resources": {"devices": [{"allow": true, "access": "rwm"}]},
        }))
        .unwrap();
        assert!(found.all && found.nodes.is_empty());
        let narrow = of(json!({"devices": [fuse]})).unwrap();
        assert_eq!((narrow.all, narrow.nodes[0].path.as_str()), (false, "/dev/fuse"));
    }

    #[test]
    fn the_hosts_own_devices_are_refused_in_words_that_mean_no_exit_code() {
        for (kind, major) in [("b", 8), ("b", 254), ("c", 240), ("c", 508)] {
            let refused =
                of(json!({"devices": [{"path": "/dev/x", "type": kind, "major": major, "minor": 0}]}));
            let text = refused.unwrap_err().to_string().to_lowercase();
            assert!(!text.contains("no such file") && !text.contains("denied"), "{text}");
        }
        for (kind, major) in [("b", 7), ("c", 10), ("p", 0)] {
            let device = json!({"path": "/dev/x", "type": kind, "major": major, "minor": 0});
            assert_eq!(of(json!({"devices": [device]})).unwrap().nodes.len(), 1);
        }
    }

    #[test]
    fn the_usual_ones_are_there_anyway() {
        let usual = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3});
        let own =
            json!({"path": "/dev/own", "type": "u", "major": 1, "minor": 3, "fileMode": 0o20_640, "gid": 5});
        let found = of(json!({"devices": [usual, own]})).unwrap();
        let [node] = &found.nodes[..] else { panic!("{found:?}") };
        assert_eq!((node.kind, node.mode, node.gid), (DeviceKind::Char, 0o640, 5));
    }
}
