//! A user of its own without any power.

use std::{fs, io, os::unix::fs::MetadataExt};

use caps::{CapSet, Capability};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// The first user of a confined process. The range up to [`LAST`] is in nobody's use: it lies above what systemd gives to
/// containers and below its foreign users (systemd, "Users, Groups, UIDs and GIDs").
pub const BASE: u32 = 0x7000_0000;
/// The last one.
pub const LAST: u32 = 0x7ffd_ffff;
/// The inode number of the first namespace of all: Linux, `PROC_DYNAMIC_FIRST` (include/linux/proc_ns.h).
const FIRST: u64 = 0xf000_0000;

/// The user for a pid namespace, by its inode number. All namespaces of a host have different ones as long as they live,
/// whoever made them; a pid would be another's too, in the next container that has a runtime of its own. Linux gives the
/// lowest number that is free, so that the range is never used up.
fn user(namespace: u64) -> Option<u32> {
    let number = u32::try_from(namespace.checked_sub(FIRST)?).ok()?;
    BASE.checked_add(number).filter(|user| *user <= LAST)
}

/// The user for the calling process, which is alone in its pid namespace. It must still see `/proc`.
pub(super) fn of_namespace() -> io::Result<u32> {
    let namespace = fs::metadata("/proc/self/ns/pid")?.ino();
    let odd = || io::Error::other(format!("the pid namespace has the number {namespace:#x}"));
    user(namespace).ok_or_else(odd)
}

/// The calling process, which has one thread, becomes that user with the group of the same number, without any other group and
/// without a capability in any set.
pub(super) fn become_nobody(id: u32) -> io::Result<()> {
    let failed = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    // Each while it may: the bounding set needs a capability, as the groups do.
    for capability in caps::all() {
        match caps::drop(None, CapSet::Bounding, capability) {
            Ok(()) => {}
            // One that this kernel does not have.
            Err(_) if !is_known(capability) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    setgroups(&[])?;
    let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // The change of user has emptied the first two, unless this process was told to keep them.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

fn is_known(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_has_a_user_of_its_own_in_the_range() {
        assert_eq!(user(FIRST), Some(BASE));
        assert_eq!(user(FIRST + 77), Some(BASE + 77));
        assert_eq!(user(FIRST + u64::from(LAST - BASE)), Some(LAST));
        for other in [0, FIRST - 1, FIRST + u64::from(LAST - BASE) + 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(user(other), None, "{other:#x}");
        }
        // The host's own, `PROC_PID_INIT_INO`: a process that is not apart has no user.
        assert_eq!(user(0xefff_fffc), None);
    }
}
