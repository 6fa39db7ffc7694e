//! A root with nothing in it.

use std::io;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, pivot_root},
};

/// A directory that every Linux has; only this process's view of it changes, for the moment of the change.
const PLACE: &str = "/proc";

/// What such a root allows.
const NOTHING: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NOATIME);

/// The calling process sees an empty root that can't be written, in a mount namespace of its own, with ipc and uts of its own.
pub(super) fn enter_empty() -> io::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    // What follows is not for others to see.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("none"), PLACE, Some("tmpfs"), NOTHING, Some("size=4k,nr_inodes=2,mode=0555"))?;
    chdir(PLACE)?;
    // The old root comes to lie over the new one, from where it is taken away: pivot_root(2).
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    mount(NONE, "/", NONE, NOTHING | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, NONE)?;
    Ok(())
}
