//! A user namespace, entered last: everything is mounted and made by the agent's root, and the container's root, who is
//! nobody outside, finds it ready.
//!
//! What a container's root owns in the guest's own namespaces (nodes, the first directories of a tmpfs, the cgroup) is
//! given to whom the map names. The namespaces of mounts, names and cgroups are copied once more after the user
//! namespace, so that they are its own and its root may change them; what was mounted before stays locked together.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use msb_agent::protocol::{self, Failure, IdRange, Namespace, UserMap};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};

use super::cgroup::files;
use super::{at, plain, setup};
use crate::process::helper::Report;

/// Who is whom outside. Without a user namespace everybody is himself.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a>(pub &'a UserMap);

impl Owners<'_> {
    /// Whether there is a user namespace at all.
    pub fn any(self) -> bool {
        !self.0.uids.is_empty() || !self.0.gids.is_empty()
    }

    /// A user of the container outside of it.
    ///
    /// # Errors
    /// [`Failure::Setup`] for one that the map does not have.
    pub fn uid(self, inside: u32) -> Result<u32, Failure> {
        outside(self.any(), &self.0.uids, inside).ok_or_else(|| unmapped("user", inside))
    }

    /// A group of the container outside of it.
    ///
    /// # Errors
    /// As [`Self::uid`].
    pub fn gid(self, inside: u32) -> Result<u32, Failure> {
        outside(self.any(), &self.0.gids, inside).ok_or_else(|| unmapped("group", inside))
    }
}

fn outside(any: bool, ranges: &[IdRange], inside: u32) -> Option<u32> {
    if !any {
        return Some(inside);
    }
    ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
        range.outside.checked_add(offset)
    })
}

fn unmapped(kind: &str, id: u32) -> Failure {
    setup(format!("find {kind} {id}"), &"the container's user namespace has no mapping for it")
}

/// `/dev/stdout` can only be opened by the pipe's owner, and the pipes come from outside.
pub fn own_pipes(uid: u32) {
    for descriptor in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let pipe =
            fstat(descriptor).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits());
        if pipe {
            // Only a nicety: without it everything but reopening works.
            let _ = fchown(descriptor, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// Makes the namespace and becomes its root. Only the agent may write the maps: it is asked, and answers with a byte.
///
/// # Errors
/// [`Failure::Setup`].
pub fn enter(namespaces: &[Namespace], control: &mut File) -> Result<(), Failure> {
    let step = || "make a user namespace".to_owned();
    unshare(CloneFlags::CLONE_NEWUSER).map_err(plain).map_err(at(step))?;
    protocol::write(control, &Report::NeedsMap).map_err(at(step))?;
    match control.read(&mut [0]) {
        Ok(1) => {}
        Ok(_) | Err(_) => return Err(setup(step(), &"the agent is gone")),
    }
    become_root().map_err(plain).map_err(at(|| "become root of the user namespace".into()))?;
    let mut again = CloneFlags::CLONE_NEWNS;
    again.set(CloneFlags::CLONE_NEWUTS, namespaces.contains(&Namespace::Uts));
    again.set(CloneFlags::CLONE_NEWCGROUP, namespaces.contains(&Namespace::Cgroup));
    unshare(again).map_err(plain).map_err(at(|| "own the namespaces".into()))
}

/// After a user namespace was joined: whoever this was outside is nobody inside.
///
/// # Errors
/// The kernel's.
pub fn become_root() -> Result<(), Errno> {
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(root, root, root)
}

/// The agent's part: the maps of the process `pid`.
///
/// # Errors
/// [`Failure::Setup`] with the map that the kernel refuses.
pub fn write_maps(pid: i32, map: &UserMap) -> Result<(), Failure> {
    for (name, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        files::write_path(&format!("/proc/{pid}/{name}"), &lines(ranges))
            .map_err(plain)
            .map_err(at(|| format!("write the {name} of the user namespace")))?;
    }
    Ok(())
}

/// user_namespaces(7): all of a map in one write.
fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_somebody_else_outside() {
        let ranges = |outside| {
            vec![
                IdRange { inside: 0, outside, count: 10 },
                IdRange { inside: 50, outside: outside + 100, count: 1 },
            ]
        };
        let map = UserMap { uids: ranges(1000), gids: ranges(2000) };
        let owners = Owners(&map);
        assert_eq!((owners.uid(0), owners.uid(9), owners.uid(50)), (Ok(1000), Ok(1009), Ok(1100)));
        assert_eq!(owners.gid(5), Ok(2005));
        for unknown in [10, 49, 51, u32::MAX] {
            assert!(owners.uid(unknown).is_err(), "{unknown}");
        }
        let none = UserMap::default();
        assert_eq!(Owners(&none).uid(7), Ok(7));
        assert_eq!(lines(&map.uids), "0 1000 10\n50 1100 1\n");
    }
}
