//! One file of any kind but a directory: made under a temporary name beside its own, then renamed over what was there.
//!
//! In: an inode of the scratch disk, an open directory of the host, a name in it. Out: the file, whole, or what was there
//! before; a directory that is in its place goes first. It must never know what else there is to bring.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, openat, renameat, statat, symlinkat,
};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::copy::{Copier, CopyError};
use super::error::WritebackError;
use super::host::{Root, failed, kind, sweep};
use super::manifest::Seen;
use super::rights::Rights;
use super::{DeviceKind, TEMPORARY};
use crate::ext4::reader::{Budget, Inode, Kind, Scratch};
use crate::tree::{Device, Time};

/// Where a file goes.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Root,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    /// From the root, for errors.
    pub(super) path: &'a Path,
}

impl Place<'_> {
    /// Makes the file that `inode` is, with what `rights` allow and what the file of that name has already; a device only
    /// so. Gives the number of attributes left behind.
    pub(super) fn make(
        &self,
        scratch: &Scratch,
        inode: &Inode,
        rights: &Rights,
        budget: &mut Budget,
        copier: &mut Copier,
    ) -> Result<Option<u64>, WritebackError> {
        let fail = failed("write", self.path);
        let mut attributes = Attributes::of(scratch, inode)?;
        match inode.kind {
            Kind::Regular => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(self.directory, TEMPORARY, flags, Mode::from(0o600)).map_err(&fail)?;
                let file = File::from(file);
                copier.copy(scratch, inode, budget, &file).map_err(|error| match error {
                    CopyError::Disk(error) => WritebackError::Disk(error),
                    CopyError::Host(errno) => fail(errno),
                })?;
                rights
                    .limit_program(&mut attributes, &file, copier, || self.old_file())
                    .map_err(failed("compare", self.path))?;
                attributes.set_on_file(file.as_fd()).map_err(failed("set the attributes of", self.path))?;
                self.take_the_name()?;
                return Ok(Some(attributes.dropped));
            }
            Kind::Symlink => {
                let target = scratch.target(inode)?;
                symlinkat(&*target, self.directory, TEMPORARY).map_err(&fail)?;
            }
            Kind::Fifo => self.node(FileType::Fifo, 0).map_err(&fail)?,
            Kind::Socket => self.node(FileType::Socket, 0).map_err(&fail)?,
            Kind::CharacterDevice(device)
                if rights.has_device(DeviceKind::Character, device)
                    || self.is_device(FileType::CharacterDevice, device) =>
            {
                self.node(FileType::CharacterDevice, makedev(device.major, device.minor)).map_err(&fail)?;
            }
            Kind::BlockDevice(device)
                if rights.has_device(DeviceKind::Block, device)
                    || self.is_device(FileType::BlockDevice, device) =>
            {
                self.node(FileType::BlockDevice, makedev(device.major, device.minor)).map_err(&fail)?;
            }
            Kind::CharacterDevice(_) | Kind::BlockDevice(_) | Kind::Directory => return Ok(None),
        }
        rights.limit_other(&mut attributes);
        attributes
            .set_on_name(self.directory, TEMPORARY, inode.kind)
            .map_err(failed("set the attributes of", self.path))?;
        self.take_the_name()?;
        Ok(Some(attributes.dropped))
    }

    /// Makes the name another one of a file that was made before; false if that file cannot have more names.
    pub(super) fn link(&self, first: BorrowedFd<'_>, first_name: &[u8]) -> Result<bool, WritebackError> {
        let fail = failed("link", self.path);
        let look = |directory, name| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = look(first, first_name).map_err(&fail)?;
        // Renaming one name of a file to another one does nothing, and would leave the temporary name.
        if look(self.directory, self.name)
            .is_ok_and(|here| (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
        {
            return Ok(true);
        }
        match linkat(first, first_name, self.directory, TEMPORARY, AtFlags::empty()) {
            Err(Errno::MLINK) => return Ok(false),
            other => other.map_err(&fail)?,
        }
        self.take_the_name()?;
        Ok(true)
    }

    /// Whether the file is as it was left by the write-back before, and so is the guest's.
    pub(super) fn is_unchanged(&self, inode: &Inode, seen: &Seen) -> bool {
        seen.guest == (inode.number, inode.generation, inode.ctime) && self.identity() == Some(seen.host)
    }

    /// What tells whether anybody touched the file.
    pub(super) fn identity(&self) -> Option<(u64, Time)> {
        let stat = statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let nanoseconds = u32::try_from(stat.st_ctime_nsec).ok()?;
        FileType::from_raw_mode(stat.st_mode)
            .is_file()
            .then_some((stat.st_ino, Time { seconds: stat.st_ctime, nanoseconds }))
    }

    /// The host's file of that name, if it is one.
    fn old_file(&self) -> Option<File> {
        // A fifo would be waited for without `NONBLOCK`.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Looked at first: to open a device does something.
        if kind(self.directory, self.name).ok()? != Some(FileType::RegularFile) {
            return None;
        }
        openat(self.directory, self.name, flags, Mode::empty()).ok().map(File::from)
    }

    /// Whether the host has this device under that name.
    fn is_device(&self, kind: FileType, device: Device) -> bool {
        statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == kind
                && stat.st_rdev == makedev(device.major, device.minor)
        })
    }

    fn node(&self, kind: FileType, device: rustix::fs::Dev) -> Result<(), Errno> {
        mknodat(self.directory, TEMPORARY, kind, Mode::from(0o600), device)
    }

    fn take_the_name(&self) -> Result<(), WritebackError> {
        if kind(self.directory, self.name).map_err(failed("look at", self.path))? == Some(FileType::Directory)
        {
            self.root.remove(self.directory, self.name, self.path)?;
        }
        renameat(self.directory, TEMPORARY, self.directory, self.name).map_err(failed("rename to", self.path))
    }

    /// Nothing of a file that failed stays.
    pub(super) fn clean_up(&self) {
        // What cannot be removed now is removed by the next run.
        let _swept = sweep(self.directory, self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::*;

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path(), 8).unwrap();
        let directory = File::open(folder.path()).unwrap();
        mknodat(&directory, "fifo", FileType::Fifo, Mode::from(0o600), 0).unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        let opened = inotify::init(CreateFlags::NONBLOCK).unwrap();
        for name in ["fifo", "file"] {
            inotify::add_watch(&opened, folder.path().join(name), WatchFlags::OPEN).unwrap();
        }
        let old_file = |name: &str| {
            let (name, path) = (name.as_bytes(), Path::new(name));
            Place { root: &root, directory: directory.as_fd(), name, path }.old_file()
        };
        let mut events = [0; 512];
        assert!(old_file("fifo").is_none());
        assert_eq!(rustix::io::read(&opened, &mut events), Err(Errno::AGAIN));
        assert!(old_file("file").is_some());
        assert!(rustix::io::read(&opened, &mut events).unwrap() > 0);
    }
}
