//! Owner, mode, attributes and times of files in a layer.
//!
//! In: what an archive says, or a file of a layer below. Out: a file that has the same. Of extended attributes only what is a
//! container's own is taken: not what overlayfs keeps for itself, which would make a layer show other files of the host,
//! nor labels of whatever machine the image was made on.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, getxattr, listxattr, lsetxattr, openat, utimensat,
};
use rustix::io::Errno;

use super::archive::{Metadata, Time, Xattr};
use super::view::by_descriptor;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` (limits.h).
const MOST: usize = 65536;

/// Whether an extended attribute is a container's own.
fn is_taken(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let whole: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    let prefixed = name.starts_with(b"user.") || name.starts_with(b"trusted.");
    !overlay && (prefixed || whole.contains(&name))
}

/// Sets all on an open file or directory; of a directory, times come last of all, elsewhere.
pub(super) fn on_file(file: BorrowedFd<'_>, metadata: &Metadata, times: bool) -> Result<(), Errno> {
    // In this order: an owner's change takes setuid and capabilities away, and a list changes the mode.
    fchown(file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
    for xattr in taken(metadata) {
        tolerate(fsetxattr(file, OsStr::from_bytes(&xattr.name), &xattr.value, XattrFlags::empty()))?;
    }
    fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    if times { futimens(file, &timestamps(metadata.mtime)) } else { Ok(()) }
}

/// Sets all on a file that was just made and can't be opened: a link, a device, a pipe.
pub(super) fn on_name(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    metadata: &Metadata,
    link: bool,
) -> Result<(), Errno> {
    let same = AtFlags::SYMLINK_NOFOLLOW;
    chownat(parent, name, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)), same)?;
    let path = by_descriptor(parent).join(name);
    for xattr in taken(metadata) {
        tolerate(lsetxattr(&path, OsStr::from_bytes(&xattr.name), &xattr.value, XattrFlags::empty()))?;
    }
    if !link {
        chmodat(parent, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    }
    utimensat(parent, name, &timestamps(metadata.mtime), same)
}

/// What a file of a layer has, to be given to another one. `there` may be open as `O_PATH`.
pub(super) fn of_file(there: BorrowedFd<'_>, stat: &Stat) -> Result<Metadata, Errno> {
    let path = by_descriptor(there);
    let mut names = vec![0; MOST];
    let length = match listxattr(&path, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    names.truncate(length);
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_taken(name)) {
        let mut value = vec![0; MOST];
        let length = getxattr(&path, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        xattrs.push(Xattr { name: name.to_vec(), value });
    }
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Ok(Metadata {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        mtime: Time { seconds: stat.st_mtime, nanoseconds },
        xattrs,
    })
}

/// A directory's own times, when nothing more is made in it.
pub(super) fn times_of_directory(root: BorrowedFd<'_>, path: &Path, time: Time) -> Result<(), Errno> {
    match super::view::open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => futimens(&directory, &timestamps(time)),
        // It was replaced by something else.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A directory that was just made, or is there.
pub(super) fn on_directory(parent: BorrowedFd<'_>, name: &OsStr, metadata: &Metadata) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    on_file(directory.as_fd(), metadata, false)
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn taken(metadata: &Metadata) -> impl Iterator<Item = &Xattr> {
    metadata.xattrs.iter().filter(|xattr| is_taken(&xattr.name))
}

/// The file system has no such attributes, or not on this kind of file; or the value is none that a kernel would take.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::TOOBIG) => Ok(()),
        // `user.*` is for files and directories alone (xattr(7)), and is refused so elsewhere.
        Err(Errno::PERM) if rustix::process::geteuid().is_root() => Ok(()),
        other => other,
    }
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
