//! Volumes that come and go while the tree is served: those of a pod's further containers.
//!
//! The mounts that virtiofsd serves are in a namespace that it made for itself. A thread of this process joins that
//! namespace, whose root is the tree, for one change, and ends. The sources' mounts are cloned before, where they are.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Entry, seal, tree};
use crate::host::apart::apart;

/// Why the tree was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LaterError {
    /// The source.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// The daemon has no child, or the kernel does not tell of it.
    #[error(
        "The process that serves the volumes can't be found: does the host's kernel lack CONFIG_PROC_CHILDREN?"
    )]
    Served(#[source] io::Error),
    /// Its namespace.
    #[error("The mounts that are served can't be reached")]
    Namespace(#[source] Errno),
    /// One of them.
    #[error("Volume {number} can't be put among those that are served")]
    Put {
        /// Which.
        number: u32,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// The thread.
    #[error("The thread that changes the served volumes can't be run")]
    Thread(#[source] io::Error),
}

/// Puts `entries` into the tree that the daemon serves, process `pid` and a child of this one, each at its number, which no
/// other had before.
///
/// # Errors
/// [`LaterError`]; then none of them is there.
pub fn put(pid: u32, entries: &[(u32, Entry)]) -> Result<(), LaterError> {
    let clone = |(number, entry): &(u32, Entry)| {
        let name = usize::try_from(*number).unwrap_or(usize::MAX);
        Ok((*number, entry.directory, tree::clone(name, entry)?))
    };
    let clones = entries.iter().map(clone).collect::<Result<Vec<_>, tree::TreeError>>()?;
    within(pid, move |top| {
        for (at, (number, directory, clone)) in clones.iter().enumerate() {
            if let Err(source) = put_one(top, *number, *directory, clone) {
                let put: Vec<u32> = clones[..=at].iter().map(|(number, ..)| *number).collect();
                take_all(top, &put);
                return Err(LaterError::Put { number: *number, source });
            }
        }
        Ok(())
    })
}

/// Takes the entries of these numbers out of the tree. What the guest still has open of one stays open there.
///
/// # Errors
/// [`LaterError`].
pub fn take(pid: u32, numbers: &[u32]) -> Result<(), LaterError> {
    let numbers = numbers.to_vec();
    within(pid, move |top| {
        take_all(top, &numbers);
        Ok(())
    })
}

/// Does `work` where the tree is the root; names can be made beneath the descriptor, which no other process can.
fn within(
    pid: u32,
    work: impl FnOnce(&OwnedFd) -> Result<(), LaterError> + Send + 'static,
) -> Result<(), LaterError> {
    let namespace = seal::served(pid).map_err(LaterError::Served)?;
    let change = move || {
        let reach = LaterError::Namespace;
        // A thread that shares its root with others can't join a namespace of mounts.
        unshare(CloneFlags::CLONE_FS).map_err(reach)?;
        setns(&namespace, CloneFlags::CLONE_NEWNS).map_err(reach)?;
        let how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let top = open_tree(rustix::fs::CWD, "/", how)
            .map_err(|errno| reach(Errno::from_raw(errno.raw_os_error())))?;
        tree::make_writable(top.as_fd()).map_err(reach)?;
        work(&top)
    };
    apart("volumes", change).map_err(LaterError::Thread)?
}

fn put_one(top: &OwnedFd, number: u32, directory: bool, clone: &OwnedFd) -> Result<(), Errno> {
    let name = number.to_string();
    if directory {
        mkdirat(top, name.as_str(), Mode::S_IRWXU)?;
    } else {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        drop(openat(top, name.as_str(), flags, Mode::S_IRUSR)?);
    }
    let place = served_as(number);
    move_mount(clone, "", rustix::fs::CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// What is not there is as good as taken.
fn take_all(top: &OwnedFd, numbers: &[u32]) {
    for number in numbers {
        let (name, place) = (number.to_string(), served_as(*number));
        let _ = umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        if unlinkat(top, name.as_str(), UnlinkatFlags::RemoveDir).is_err() {
            let _ = unlinkat(top, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn served_as(number: u32) -> PathBuf {
    PathBuf::from("/").join(number.to_string())
}
