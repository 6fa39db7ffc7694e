//! What of the kernel the container has for itself beside its namespaces: ids, clocks, personality, sysctls.

use msb_agent::protocol::{Clock, IdRange, Personality, Sysctl, TimeOffset, UserMap};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, LinuxPersonalityDomain, LinuxTimeOffset};

use super::ConfigError;

/// Lines that the kernel takes in a map (`UID_GID_MAP_MAX_EXTENTS`, linux/user_namespace.h).
const MAX_RANGES: usize = 340;

/// Parameters of System V IPC, which an ipc namespace has for itself.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// `linux.uidMappings` and `gidMappings`; without a user namespace they mean nothing, as with runc. Files keep the host's numbers in
/// the guest, so a root whose owners were shifted on the host, as callers with user namespaces hand over, is as the
/// container expects it.
///
/// # Errors
/// [`ConfigError::UserMapping`].
pub(super) fn user_map(linux: &Linux) -> Result<UserMap, ConfigError> {
    let map = |list: &Option<Vec<LinuxIdMapping>>| {
        let range = |one: &LinuxIdMapping| IdRange {
            inside: one.container_id(),
            outside: one.host_id(),
            count: one.size(),
        };
        list.iter().flatten().map(range).collect::<Vec<_>>()
    };
    let wrong = |problem| Err(ConfigError::UserMapping { problem });
    if !has(linux, LinuxNamespaceType::User) {
        return Ok(UserMap::default());
    }
    let users = UserMap { uids: map(linux.uid_mappings()), gids: map(linux.gid_mappings()) };
    for ranges in [&users.uids, &users.gids] {
        if ranges.len() > MAX_RANGES {
            return wrong("the kernel takes 340 lines at most");
        }
        if ranges.iter().any(|range| {
            range.count == 0
                || range.inside.checked_add(range.count).is_none()
                || range.outside.checked_add(range.count).is_none()
        }) {
            return wrong("each must have a size that fits");
        }
        if !ranges.iter().any(|range| range.inside == 0) {
            return wrong("the container's root must be somebody: map 0");
        }
    }
    Ok(users)
}

/// `linux.timeOffsets`, in one order.
///
/// # Errors
/// [`ConfigError::TimeOffset`].
pub(super) fn time_offsets(linux: &Linux) -> Result<Vec<TimeOffset>, ConfigError> {
    let one = |(name, offset): (&String, &LinuxTimeOffset)| {
        let wrong = |problem| ConfigError::TimeOffset { clock: name.clone(), problem };
        let clock = match name.as_str() {
            "monotonic" => Clock::Monotonic,
            "boottime" => Clock::Boottime,
            _ => return Err(wrong("only monotonic and boottime can be moved")),
        };
        let nanoseconds = offset.nanosecs().unwrap_or_default();
        if nanoseconds >= 1_000_000_000 {
            return Err(wrong("nanosecs must be less than a second"));
        }
        if !has(linux, LinuxNamespaceType::Time) {
            return Err(wrong("it needs a time namespace"));
        }
        Ok(TimeOffset { clock, seconds: offset.secs().unwrap_or_default(), nanoseconds })
    };
    let mut offsets =
        linux.time_offsets().iter().flatten().map(one).collect::<Result<Vec<_>, ConfigError>>()?;
    offsets.sort_unstable_by_key(|offset| offset.clock);
    Ok(offsets)
}

/// `linux.personality`.
///
/// # Errors
/// [`ConfigError::Personality`].
pub(super) fn personality(linux: &Linux) -> Result<Option<Personality>, ConfigError> {
    let Some(wanted) = linux.personality() else { return Ok(None) };
    if wanted.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        // The specification has none yet, and runc refuses them as well.
        return Err(ConfigError::Personality);
    }
    Ok(Some(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => Personality::Linux,
        LinuxPersonalityDomain::PerLinux32 => Personality::Linux32,
    }))
}

/// `linux.sysctl`, in one order: those that a namespace of the container has for itself, by runc's rules.
///
/// # Errors
/// [`ConfigError::Sysctl`].
pub(super) fn sysctls(linux: &Linux) -> Result<Vec<Sysctl>, ConfigError> {
    let mut all = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        // Both spellings mean the same here (sysctl(8)); none of the names below holds a dot of an interface's name.
        let plain = key.replace('/', ".");
        let wrong = |problem| Err(ConfigError::Sysctl { key: key.clone(), problem });
        let needed = match plain.as_str() {
            "kernel.hostname" => return wrong("set hostname instead"),
            "kernel.domainname" => (LinuxNamespaceType::Uts, "it needs a uts namespace"),
            name if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") => {
                (LinuxNamespaceType::Ipc, "it needs an ipc namespace")
            }
            name if name.starts_with("net.") => (LinuxNamespaceType::Network, "it needs a network namespace"),
            _ => return wrong("no namespace of a container has it for itself"),
        };
        if !has(linux, needed.0) {
            return wrong(needed.1);
        }
        all.push(Sysctl { key: key.clone(), value: value.clone() });
    }
    all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}

/// `linux.rootfsPropagation`: a word that a mount's options have too.
///
/// # Errors
/// [`ConfigError::Propagation`].
pub(super) fn propagation(linux: &Linux) -> Result<Option<String>, ConfigError> {
    const WORDS: [&str; 8] =
        ["private", "rprivate", "rshared", "rslave", "runbindable", "shared", "slave", "unbindable"];
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(None),
        Some(word) if WORDS.contains(&word) => Ok(Some(word.to_owned())),
        Some(word) => Err(ConfigError::Propagation { word: word.to_owned() }),
    }
}

/// Host and domain name are a uts namespace's own.
///
/// # Errors
/// [`ConfigError::HostName`].
pub(super) fn names(linux: &Linux, names: &[(&'static str, Option<&str>)]) -> Result<(), ConfigError> {
    match names.iter().find(|(_, name)| name.is_some()) {
        Some((field, _)) if !has(linux, LinuxNamespaceType::Uts) => Err(ConfigError::HostName { field }),
        _ => Ok(()),
    }
}

/// What no guest of ours has.
///
/// # Errors
/// [`ConfigError::HostOnly`].
pub(super) fn host_only(linux: &Linux) -> Result<(), ConfigError> {
    let asked = [
        ("intelRdt", "cache and memory bandwidth are the host's", linux.intel_rdt().is_some()),
        ("memoryPolicy", "a machine has one memory node", linux.memory_policy().is_some()),
        (
            "netDevices",
            "the host's network devices stay on the host",
            linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()),
        ),
    ];
    match asked.into_iter().find(|(.., asked)| *asked) {
        Some((field, reason, _)) => Err(ConfigError::HostOnly { field, reason }),
        None => Ok(()),
    }
}

fn has(linux: &Linux, kind: LinuxNamespaceType) -> bool {
    linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn linux(value: Value) -> Linux {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn maps_come_with_a_user_namespace_and_have_a_root() {
        let user = json!([{"type": "user"}]);
        let map = |inside: u32, outside: u32, size: u32| json!([{"containerID": inside, "hostID": outside, "size": size}]);
        let good = linux(json!({
            "namespaces": user, "uidMappings": map(0, 100_000, 65536), "gidMappings": map(0, 200_000, 65536),
        }));
        let found = user_map(&good).unwrap();
        assert_eq!(found.uids, [IdRange { inside: 0, outside: 100_000, count: 65536 }]);
        assert_eq!(found.gids[0].outside, 200_000);
        let one = map(0, 1, 1);
        for (namespaces, uids, gids) in [
            (user.clone(), json!([]), one.clone()),
            (user.clone(), one.clone(), map(1, 1, 1)),
            (user.clone(), map(0, 1, 0), one.clone()),
            (user.clone(), map(0, u32::MAX, 2), one.clone()),
        ] {
            let bad = linux(json!({"namespaces": namespaces, "uidMappings": uids, "gidMappings": gids}));
            assert!(matches!(user_map(&bad), Err(ConfigError::UserMapping { .. })), "{bad:?}");
        }
        let none = linux(json!({"uidMappings": one, "gidMappings": one}));
        assert_eq!(user_map(&none), Ok(UserMap::default()));
    }

    #[test]
    fn clocks_can_be_moved_in_a_time_namespace() {
        let offsets = json!({"monotonic": {"secs": 86400}, "boottime": {"secs": -5, "nanosecs": 7}});
        let found = time_offsets(&linux(json!({"namespaces": [{"type": "time"}], "timeOffsets": offsets})));
        let expected = [
            TimeOffset { clock: Clock::Monotonic, seconds: 86400, nanoseconds: 0 },
            TimeOffset { clock: Clock::Boottime, seconds: -5, nanoseconds: 7 },
        ];
        assert_eq!(found.unwrap(), expected);
        for (namespaces, offsets) in [
            (json!([]), offsets),
            (json!([{"type": "time"}]), json!({"realtime": {"secs": 1}})),
            (json!([{"type": "time"}]), json!({"boottime": {"nanosecs": 1_000_000_000}})),
        ] {
            let bad = linux(json!({"namespaces": namespaces, "timeOffsets": offsets}));
            assert!(matches!(time_offsets(&bad), Err(ConfigError::TimeOffset { .. })));
        }
    }

    #[test]
    fn each_sysctl_has_its_namespace() {
        for (key, kind) in [
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/ip_forward", "network"),
            ("kernel.msgmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("kernel.domainname", "uts"),
        ] {
            let with =
                |namespaces: Value| sysctls(&linux(json!({"sysctl": {key: "1"}, "namespaces": namespaces})));
            assert_eq!(with(json!([{"type": kind}])).unwrap().len(), 1, "{key}");
            assert!(matches!(with(json!([])), Err(ConfigError::Sysctl { .. })), "{key}");
        }
        let every = json!([{"type": "ipc"}, {"type": "uts"}, {"type": "network"}]);
        for key in ["kernel.hostname", "vm.max_map_count", "kernel.panic", "fs.file-max"] {
            let refused = sysctls(&linux(json!({"sysctl": {key: "1"}, "namespaces": every})));
            assert!(matches!(refused, Err(ConfigError::Sysctl { .. })), "{key}");
        }
    }

    #[test]
    fn personalities_and_propagation() {
        let found = personality(&linux(json!({"personality": {"domain": "LINUX32"}})));
        assert_eq!(found, Ok(Some(Personality::Linux32)));
        let flags = linux(json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}}));
        assert_eq!(personality(&flags), Err(ConfigError::Personality));
        assert_eq!(propagation(&linux(json!({"rootfsPropagation": "rslave"}))), Ok(Some("rslave".into())));
        assert_eq!(propagation(&linux(json!({"rootfsPropagation": ""}))), Ok(None));
        let wrong = propagation(&linux(json!({"rootfsPropagation": "open"})));
        assert!(matches!(wrong, Err(ConfigError::Propagation { .. })));
    }

    #[test]
    fn names_need_a_uts_namespace_and_the_hosts_things_stay_there() {
        let own = linux(json!({"namespaces": [{"type": "uts"}]}));
        let none = linux(json!({"namespaces": []}));
        assert_eq!(names(&own, &[("hostname", Some("a"))]), Ok(()));
        assert_eq!(names(&none, &[("hostname", None), ("domainname", None)]), Ok(()));
        let refused = names(&none, &[("hostname", None), ("domainname", Some("a"))]);
        assert_eq!(refused, Err(ConfigError::HostName { field: "domainname" }));
        assert_eq!(host_only(&none), Ok(()));
        let rdt = host_only(&linux(json!({"intelRdt": {"closID": "a"}})));
        assert!(matches!(rdt, Err(ConfigError::HostOnly { field: "intelRdt", .. })));
    }
}
