//! A user of its own without any power.

use std::io;

use caps::{CapSet, Capability};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// The first user of a confined process. The range up to [`LAST`] is in nobody's use: it lies above what systemd gives to
/// containers and below the half that programs take for negative numbers (systemd, "Users, Groups, UIDs and GIDs").
pub const BASE: u32 = 1_879_048_192;
/// The last one.
pub const LAST: u32 = 2_147_483_646;

/// The user for a number, which are all different: pids, of which Linux has at most 2²².
fn user(number: u32) -> u32 {
    BASE + number % (LAST - BASE)
}

/// The calling process, which has one thread, becomes that user with the group of the same number, without any other group and
/// without a capability in any set.
pub(super) fn become_nobody(number: u32) -> io::Result<()> {
    let id = user(number);
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
    fn every_pid_has_a_user_of_its_own_in_the_range() {
        for (number, expected) in [(0, BASE), (1, BASE + 1), (1 << 22, BASE + (1 << 22))] {
            assert_eq!(user(number), expected);
        }
        assert!((BASE..=LAST).contains(&user(u32::MAX)));
    }
}
