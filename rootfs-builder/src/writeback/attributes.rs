//! Owner, mode, extended attributes and times of what was brought.
//!
//! In: an inode of the scratch disk. Out: the same on a file of the host, which is reached by a descriptor, or by a name that
//! is not followed. Which extended attributes come along is decided here: those that belong to the container's files, and none
//! by which the host's own overlayfs, security module or integrity checks would take orders from a guest.
//! It must never know where the file is in the root.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fgetxattr,
    flistxattr, fremovexattr, fsetxattr, futimens, llistxattr, lremovexattr, lsetxattr, openat, utimensat,
};
use rustix::io::Errno;

use super::host::{by_descriptor, set_mode_by_descriptor};
use crate::ext4::reader::{DiskError, Inode, Kind, Scratch};
use crate::tree::{Time, Xattr};

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of linux/limits.h.
const XATTR_MAX: usize = 65536;

/// What a file is to have.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) mode: Mode,
    pub(super) xattrs: Vec<Xattr>,
    times: Timestamps,
    /// How many were left behind: not the container's, or not possible on this host; set IDs count too.
    pub(super) dropped: u64,
}

/// Whether an extended attribute is the container's own.
fn is_brought(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let whole: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    let prefixed = name.starts_with(b"user.") || name.starts_with(b"trusted.");
    !overlay && (prefixed || whole.contains(&name))
}

impl Attributes {
    /// Those of an inode.
    pub(super) fn of(scratch: &Scratch, inode: &Inode) -> Result<Self, DiskError> {
        let mut xattrs = scratch.attributes(inode)?;
        // What overlayfs keeps for itself is not missed by anybody.
        let count = |xattrs: &[Xattr]| {
            xattrs.iter().filter(|xattr| !xattr.name.starts_with(b"trusted.overlay.")).count()
        };
        let before = count(&xattrs);
        xattrs.retain(|xattr| is_brought(&xattr.name));
        let dropped = u64::try_from(before - xattrs.len()).expect("a count fits");
        Ok(Self {
            uid: Uid::from_raw(inode.uid),
            gid: Gid::from_raw(inode.gid),
            mode: Mode::from_bits_truncate(inode.permissions.into()),
            xattrs,
            times: Timestamps { last_access: time(inode.atime), last_modification: time(inode.mtime) },
            dropped,
        })
    }

    /// Sets all on an open file that was just made.
    pub(super) fn set_on_file(&mut self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        // In this order: an owner's change takes setuid and capabilities away, and a list changes the mode.
        fchown(file, Some(self.uid), Some(self.gid))?;
        self.set_xattrs(&Target::Open(file), true)?;
        fchmod(file, self.mode)?;
        futimens(file, &self.times)
    }

    /// Sets on an open directory what is different. Extended attributes that the guest does not have stay if it is the root,
    /// of which the agent made a new one; and if nothing is in it, its times say nothing.
    pub(super) fn set_on_directory(
        &mut self,
        directory: BorrowedFd<'_>,
        is_root: bool,
        times: bool,
    ) -> Result<(), Errno> {
        let now = rustix::fs::fstat(directory)?;
        let owner = (now.st_uid, now.st_gid) != (self.uid.as_raw(), self.gid.as_raw());
        if owner {
            fchown(directory, Some(self.uid), Some(self.gid))?;
        }
        self.set_xattrs(&Target::Open(directory), !is_root)?;
        if owner || Mode::from_bits_truncate(now.st_mode & 0o7777) != self.mode {
            fchmod(directory, self.mode)?;
        }
        if times { futimens(directory, &self.times) } else { Ok(()) }
    }

    /// Sets all on a file in `directory` that cannot be opened: a link, a device, a pipe, a socket.
    pub(super) fn set_on_name(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &str,
        kind: Kind,
    ) -> Result<(), Errno> {
        let same = AtFlags::SYMLINK_NOFOLLOW;
        chownat(directory, name, Some(self.uid), Some(self.gid), same)?;
        self.set_xattrs(&Target::Named(by_descriptor(directory, name)), true)?;
        if kind != Kind::Symlink {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(directory, name, flags, Mode::empty())?;
            set_mode_by_descriptor(std::os::fd::AsFd::as_fd(&file), self.mode)?;
        }
        utimensat(directory, name, &self.times, same)
    }

    fn set_xattrs(&mut self, target: &Target<'_>, only: bool) -> Result<(), Errno> {
        let present = target.list()?;
        for name in present.split(|byte| *byte == 0).filter(|name| is_brought(name)) {
            if only && !self.xattrs.iter().any(|xattr| xattr.name == name) {
                target.remove(name)?;
            }
        }
        for xattr in &self.xattrs {
            if target.has(xattr, &present) {
                continue;
            }
            match target.set(xattr) {
                // The host's file system has no such attributes, or not of this size; or the value is no list or no capability,
                // which an honest guest's kernel would not have taken either.
                Err(Errno::OPNOTSUPP | Errno::TOOBIG | Errno::INVAL) => self.dropped += 1,
                other => other?,
            }
        }
        Ok(())
    }
}

/// A file that has extended attributes.
enum Target<'a> {
    Open(BorrowedFd<'a>),
    /// The last part is not followed.
    Named(std::path::PathBuf),
}

impl Target<'_> {
    /// Names, each with a NUL behind it.
    fn list(&self) -> Result<Vec<u8>, Errno> {
        let mut names = vec![0; XATTR_MAX];
        let length = match self {
            Self::Open(file) => flistxattr(file, &mut names[..]),
            Self::Named(path) => llistxattr(path, &mut names[..]),
        };
        match length {
            Ok(length) => names.truncate(length),
            Err(Errno::OPNOTSUPP) => names.clear(),
            Err(errno) => return Err(errno),
        }
        Ok(names)
    }

    /// Whether it is there already; asked of directories only, where it usually is.
    fn has(&self, xattr: &Xattr, present: &[u8]) -> bool {
        let Self::Open(file) = self else { return false };
        if !present.split(|byte| *byte == 0).any(|name| name == xattr.name) {
            return false;
        }
        has(file, xattr)
    }

    fn set(&self, xattr: &Xattr) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(file) => fsetxattr(file, &*xattr.name, &xattr.value, flags),
            Self::Named(path) => lsetxattr(path, &*xattr.name, &xattr.value, flags),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(file) => fremovexattr(file, name),
            Self::Named(path) => lremovexattr(path, name),
        };
        match removed {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        }
    }
}

/// Whether a file has the very same.
pub(super) fn has(file: impl AsFd, xattr: &Xattr) -> bool {
    let mut value = vec![0; xattr.value.len() + 1];
    let length = fgetxattr(file, &*xattr.name, &mut value[..]);
    length.is_ok_and(|length| value[..length] == xattr.value)
}

fn time(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_own_attributes_are_brought() {
        for name in ["user.a", "trusted.a", "security.capability", "system.posix_acl_default"] {
            assert!(is_brought(name.as_bytes()), "{name}");
        }
        for name in [
            "trusted.overlay.opaque",
            "trusted.overlay.overlay.opaque",
            "user.overlay.whiteout",
            "security.selinux",
            "security.ima",
            "security.capability2",
            "system.other",
            "",
        ] {
            assert!(!is_brought(name.as_bytes()), "{name}");
        }
    }
}
