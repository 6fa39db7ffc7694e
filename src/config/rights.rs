//! What a container could do to the files of its root if it ran on the host: its own guest's kernel is no witness of that.
//!
//! Enters: the checked process, the device rules, the user namespace. Leaves: [`Rights`], for who brings back what it wrote.
//! Errs towards more where runc's container could have come to it by a program of its image.

use std::{
    collections::{BTreeSet, HashSet},
    ops::RangeInclusive,
};

use msb_agent::protocol::{IdRange, UserMap};
use oci_spec::runtime::Capability;
use serde::{Deserialize, Serialize};

use super::{ConfigError, NodeRule, isolation, nodes::nodes};
use crate::bundle::{Process, Spec};

/// With which a file can become anybody's, or anybody's can be made set-user-ID.
const OF_OTHERS: [Capability; 6] = [
    Capability::Chown,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Setgid,
    Capability::Setuid,
    Capability::SysAdmin,
];

/// Of a container with all its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Device nodes that its cgroup lets it make.
    pub nodes: Vec<NodeRule>,
    /// Its user namespace, if it has one.
    #[serde(default)]
    pub users: UserMap,
    /// Of a record that is older than this: everything.
    #[serde(default = "Powers::all")]
    pub powers: Powers,
}

/// What capabilities make possible, by itself or by a program of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Powers {
    /// `CAP_MKNOD`
    pub make_nodes: bool,
    /// `CAP_SETFCAP`
    pub set_capabilities: bool,
    /// `CAP_SYS_ADMIN`
    pub administer: bool,
    /// Whose users files can be, as the container counts; none if anybody's.
    pub only_users: Option<BTreeSet<u32>>,
    /// The same for groups.
    pub only_groups: Option<BTreeSet<u32>>,
}

impl Powers {
    fn all() -> Self {
        Self {
            make_nodes: true,
            set_capabilities: true,
            administer: true,
            only_users: None,
            only_groups: None,
        }
    }

    /// Of what `process` begins; none if it has what the container's first process has.
    fn of(process: &Process) -> Option<Self> {
        let sets = process.capabilities()?;
        let user = process.user();
        let in_time = [sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()];
        // A program of root's gets what is in the bounding set, and so does one with set-user-ID, but for `no_new_privs`.
        let by_programs = user.uid() == 0 || !process.no_new_privileges();
        let bounding = [sets.bounding()].into_iter().filter(|_| by_programs);
        let within: HashSet<Capability> =
            in_time.into_iter().chain(bounding).flatten().flatten().copied().collect();
        let anybody =
            !process.no_new_privileges() || OF_OTHERS.iter().any(|capability| within.contains(capability));
        let groups = user.additional_gids().iter().flatten().copied().chain([user.gid()]).collect();
        Some(Self {
            make_nodes: within.contains(&Capability::Mknod),
            set_capabilities: within.contains(&Capability::Setfcap),
            administer: within.contains(&Capability::SysAdmin),
            only_users: (!anybody).then(|| BTreeSet::from([user.uid()])),
            only_groups: (!anybody).then_some(groups),
        })
    }

    fn join(&self, other: &Self) -> Self {
        let both = |one: &Option<BTreeSet<u32>>, other: &Option<BTreeSet<u32>>| {
            Some(one.as_ref()?.union(other.as_ref()?).copied().collect())
        };
        Self {
            make_nodes: self.make_nodes || other.make_nodes,
            set_capabilities: self.set_capabilities || other.set_capabilities,
            administer: self.administer || other.administer,
            only_users: both(&self.only_users, &other.only_users),
            only_groups: both(&self.only_groups, &other.only_groups),
        }
    }
}

impl Rights {
    /// Of the container that `spec` describes.
    ///
    /// # Errors
    /// [`ConfigError`], for its user namespace.
    pub fn of(spec: &Spec) -> Result<Self, ConfigError> {
        Ok(Self::new(nodes(spec.linux()), isolation::user_map(spec.linux())?, spec.process()))
    }

    /// Of a container of which `process` is the first.
    pub(crate) fn new(nodes: Vec<NodeRule>, users: UserMap, process: &Process) -> Self {
        // Without capabilities named it has none, as with runc; what its programs can be is another thing.
        let powers = Powers::of(process).unwrap_or(Powers {
            make_nodes: false,
            set_capabilities: false,
            administer: false,
            ..Powers::all()
        });
        Self { nodes, users, powers }
    }

    /// With those of one more process, where it has any that the container has not.
    #[must_use]
    pub fn with(&self, process: &Process) -> Option<Self> {
        let powers = self.powers.join(&Powers::of(process)?);
        (powers != self.powers).then(|| Self { powers, ..self.clone() })
    }

    /// Nodes that may be made: in a user namespace there is no such right.
    #[must_use]
    pub fn makes(&self) -> &[NodeRule] {
        if self.powers.make_nodes && self.is_outside() { &self.nodes } else { &[] }
    }

    /// Whose root the capabilities of programs may hold for: outside of user namespaces 0.
    #[must_use]
    pub fn roots(&self) -> Vec<RangeInclusive<u32>> {
        if self.powers.set_capabilities { outside(&self.users.uids, None) } else { Vec::new() }
    }

    /// Whose set-user-ID programs may be.
    #[must_use]
    pub fn users(&self) -> Vec<RangeInclusive<u32>> {
        outside(&self.users.uids, self.powers.only_users.as_ref())
    }

    /// Whose set-group-ID programs may be.
    #[must_use]
    pub fn groups(&self) -> Vec<RangeInclusive<u32>> {
        outside(&self.users.gids, self.powers.only_groups.as_ref())
    }

    /// Whether attributes `trusted.*` may be.
    #[must_use]
    pub fn trusted(&self) -> bool {
        self.powers.administer && self.is_outside()
    }

    fn is_outside(&self) -> bool {
        self.users.uids.is_empty()
    }
}

/// The host's numbers of those in a namespace; of all, or of `only` some.
fn outside(map: &[IdRange], only: Option<&BTreeSet<u32>>) -> Vec<RangeInclusive<u32>> {
    let whole = [IdRange { inside: 0, outside: 0, count: u32::MAX }];
    let map = if map.is_empty() { &whole } else { map };
    let Some(only) = only else {
        let all = |range: &IdRange| range.outside..=range.outside.saturating_add(range.count - 1);
        return map.iter().filter(|range| range.count > 0).map(all).collect();
    };
    let one = |id: u32| {
        let range =
            map.iter().find(|range| id.checked_sub(range.inside).is_some_and(|at| at < range.count))?;
        range.outside.checked_add(id - range.inside)
    };
    only.iter().filter_map(|id| one(*id)).map(|id| id..=id).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ANY: NodeRule = NodeRule { block: false, major: None, minor: None };

    fn process(uid: u32, new_privileges: bool, bounding: &[&str], permitted: &[&str]) -> Process {
        let process: Value = json!({
            "args": ["sh"], "cwd": "/", "user": {"uid": uid, "gid": uid, "additionalGids": [5]},
            "noNewPrivileges": !new_privileges,
            "capabilities": {"bounding": bounding, "permitted": permitted, "effective": permitted},
        });
        Process::check(serde_json::from_value(process).unwrap()).unwrap()
    }

    fn of(process: &Process) -> Rights {
        Rights::new(vec![ANY], UserMap::default(), process)
    }

    #[test]
    fn devices_and_capabilities_need_their_capability() {
        let all = ["CAP_MKNOD", "CAP_SETFCAP", "CAP_SYS_ADMIN"];
        for uid in [0, 1000] {
            let rights = of(&process(uid, true, &all, &[]));
            assert_eq!(
                (rights.makes(), rights.roots(), rights.trusted()),
                (&[ANY][..], vec![0..=u32::MAX - 1], true)
            );
            let rights = of(&process(uid, true, &["CAP_CHOWN"], &["CAP_CHOWN"]));
            assert_eq!((rights.makes(), rights.roots(), rights.trusted()), (&[][..], vec![], false));
        }
        // Who is not root and gets nothing by a program never has what is bounding alone.
        assert!(of(&process(1000, false, &all, &[])).makes().is_empty());
        assert_eq!(of(&process(1000, false, &all, &["CAP_MKNOD"])).makes(), [ANY]);
        assert_eq!(of(&process(0, false, &all, &[])).makes(), [ANY]);
    }

    #[test]
    fn set_ids_are_of_whom_its_processes_can_be() {
        let anybody = vec![0..=u32::MAX - 1];
        // By a set-user-ID program of the image.
        assert_eq!(of(&process(1000, true, &[], &[])).users(), anybody);
        assert_eq!(of(&process(1000, false, &["CAP_CHOWN"], &[])).users(), [1000..=1000]);
        assert_eq!(of(&process(1000, false, &[], &[])).groups(), [5..=5, 1000..=1000]);
        assert_eq!(of(&process(0, false, &[], &[])).users(), [0..=0]);
        assert_eq!(of(&process(0, false, &["CAP_CHOWN"], &[])).users(), anybody);
    }

    #[test]
    fn one_more_process_may_do_more() {
        let none = of(&process(1000, false, &[], &[]));
        assert_eq!(none.with(&process(1000, false, &[], &[])), None);
        let more = none.with(&process(0, false, &["CAP_MKNOD"], &["CAP_MKNOD"])).unwrap();
        assert_eq!((more.makes(), more.users()), (&[ANY][..], vec![0..=0, 1000..=1000]));
        assert_eq!(more.with(&process(1000, false, &[], &[])), None);
        let bare = json!({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        assert_eq!(none.with(&Process::check(serde_json::from_value(bare).unwrap()).unwrap()), None);
    }

    #[test]
    fn a_user_namespace_bounds_them() {
        let range = |outside| vec![IdRange { inside: 0, outside, count: 65_536 }];
        let users = UserMap { uids: range(100_000), gids: range(200_000) };
        let all = ["CAP_MKNOD", "CAP_SETFCAP", "CAP_SYS_ADMIN"];
        let rights = Rights::new(vec![ANY], users.clone(), &process(0, true, &all, &all));
        assert!(rights.makes().is_empty() && !rights.trusted());
        assert_eq!((rights.roots(), rights.users()), (vec![100_000..=165_535], vec![100_000..=165_535]));
        let rights = Rights::new(vec![ANY], users, &process(7, false, &[], &[]));
        assert_eq!(
            (rights.users(), rights.groups()),
            (vec![100_007..=100_007], vec![200_005..=200_005, 200_007..=200_007])
        );
    }

    #[test]
    fn records_of_before_are_as_they_were() {
        let old: Rights = serde_json::from_value(json!({"nodes": [ANY]})).unwrap();
        assert_eq!((old.makes(), old.users(), old.trusted()), (&[ANY][..], vec![0..=u32::MAX - 1], true));
    }
}
