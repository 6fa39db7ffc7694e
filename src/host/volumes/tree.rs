//! The tree of volumes, in a mount namespace of its own.
//!
//! Runs in the helper, which has one thread and is about to become the daemon.
#![allow(unsafe_code, reason = "mount_setattr has no wrapper in nix or rustix")]

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Entry, ReadOnly, Share, source::by_descriptor};

/// The tree holds names and nothing else: 64 KiB, and as many names as there are volumes, or may be.
const SIZE: &str = "size=64k,mode=700";
const NONE: Option<&str> = None;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The mounts of one source.
    #[error("The mounts of volume {number} can't be taken")]
    Clone {
        /// Which volume.
        number: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Their flags.
    #[error("The mounts of volume {number} can't be given their flags: is the kernel older than 5.12?")]
    Flags {
        /// Which volume.
        number: usize,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// The namespaces.
    #[error("Namespaces for the volumes can't be made")]
    Namespace(#[source] Errno),
    /// The tree itself.
    #[error("The tree of volumes can't be made at {}", path.display())]
    Tree {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Makes the tree at `share.place`, for this process alone, which has ipc and uts of its own from then on, too.
///
/// # Errors
/// [`TreeError`]
pub fn make(share: &Share) -> Result<(), TreeError> {
    let clones = (0..).zip(&share.entries).map(|(number, entry)| clone(number, entry));
    // In the caller's namespace: mounts of another can't be cloned.
    let clones = clones.collect::<Result<Vec<_>, _>>()?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .map_err(TreeError::Namespace)?;
    // Nothing made here is seen by the host; what the host unmounts is not kept busy here.
    mount(NONE, "/", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE).map_err(TreeError::Namespace)?;
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let place = &share.place;
    let tree = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| TreeError::Tree { path, source }
    };
    let options = format!("{SIZE},nr_inodes={}", share.entries.len() + share.room + 1);
    mount(Some("volumes"), place, Some("tmpfs"), harmless, Some(&*options))
        .map_err(|errno| tree(place)(errno.into()))?;
    for (number, (entry, clone)) in share.entries.iter().zip(&clones).enumerate() {
        let name = place.join(number.to_string());
        let made = if entry.directory { fs::create_dir(&name) } else { File::create_new(&name).map(drop) };
        made.map_err(tree(&name))?;
        move_mount(clone, "", rustix::fs::CWD, &name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| tree(&name)(errno.into()))?;
    }
    let flags = harmless | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NONE, place, NONE, flags, NONE).map_err(|errno| tree(place)(errno.into()))
}

/// The source's mount, or it and all beneath, attached nowhere and with the flags that the volume is to have. An error calls
/// it by its `number`.
///
/// # Errors
/// [`TreeError::Clone`], [`TreeError::Flags`]
pub fn clone(number: usize, entry: &Entry) -> Result<OwnedFd, TreeError> {
    let mut how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    how.set(OpenTreeFlags::AT_RECURSIVE, entry.recursive);
    let clone = open_tree(rustix::fs::CWD, by_descriptor(entry.source), how)
        .map_err(|errno| TreeError::Clone { number, source: errno.into() })?;
    let flags = |source| TreeError::Flags { number, source };
    let propagation = if entry.follows_host { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
    let mut all = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    if entry.read_only == ReadOnly::All {
        all |= MOUNT_ATTR_RDONLY;
    }
    set(clone.as_fd(), all, propagation, true).map_err(flags)?;
    let mut top = 0;
    if entry.read_only == ReadOnly::Top {
        top |= MOUNT_ATTR_RDONLY;
    }
    if entry.no_access_time {
        top |= MOUNT_ATTR_NOATIME;
    }
    if top != 0 {
        set(clone.as_fd(), top, MsFlags::empty(), false).map_err(flags)?;
    }
    Ok(clone)
}

/// Of linux/mount.h, for mount_setattr(2).
const MOUNT_ATTR_RDONLY: u64 = 0x01;
const MOUNT_ATTR_NOSUID: u64 = 0x02;
const MOUNT_ATTR_NODEV: u64 = 0x04;
const MOUNT_ATTR_NOEXEC: u64 = 0x08;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
/// The field of which [`MOUNT_ATTR_NOATIME`] is one value.
const MOUNT_ATTR__ATIME: u64 = 0x70;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes the mount that `top` is the root of read-only.
///
/// # Errors
/// The kernel's: `EBUSY` while a file is open for writing.
pub(super) fn make_read_only(top: BorrowedFd<'_>) -> Result<(), Errno> {
    set(top, MOUNT_ATTR_RDONLY, MsFlags::empty(), false)
}

/// Lets the mount that `top` is the root of be written.
///
/// # Errors
/// The kernel's.
pub(super) fn make_writable(top: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: 0, attr_clr: MOUNT_ATTR_RDONLY, propagation: 0, userns_fd: 0 };
    set_attr(top, &attr, libc::AT_EMPTY_PATH)
}

/// mount_setattr(2) on the mount that `tree` is the root of, or on all of the tree.
fn set(tree: BorrowedFd<'_>, attributes: u64, propagation: MsFlags, recursive: bool) -> Result<(), Errno> {
    let attr = MountAttr {
        attr_set: attributes,
        // One value of a field can only be set when the field is cleared in the same call.
        attr_clr: if attributes & MOUNT_ATTR_NOATIME == 0 { 0 } else { MOUNT_ATTR__ATIME },
        propagation: propagation.bits(),
        userns_fd: 0,
    };
    set_attr(tree, &attr, libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 })
}

fn set_attr(tree: BorrowedFd<'_>, attr: &MountAttr, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the path is a literal, and the structure lives and has the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}
