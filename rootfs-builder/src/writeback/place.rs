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
use super::{DeviceKind, DeviceRule, TEMPORARY};
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
    /// Makes the file that `inode` is, a device only where `rules` allow it; false if they do not. Gives the number of
    /// attributes left behind.
    pub(super) fn make(
        &self,
        scratch: &Scratch,
        inode: &Inode,
        rules: &[DeviceRule],
        budget: &mut Budget,
        copier: &mut Copier,
    ) -> Result<Option<u64>, WritebackError> {
        let fail = failed("write", self.path);
        let mut attributes = Attributes::of(scratch, inode)?;
        match inode.kind {
            Kind::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(self.directory, TEMPORARY, flags, Mode::from(0o600)).map_err(&fail)?;
                let file = File::from(file);
                copier.copy(scratch, inode, budget, &file).map_err(|error| match error {
                    CopyError::Disk(error) => WritebackError::Disk(error),
                    CopyError::Host(errno) => fail(errno),
                })?;
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
            Kind::CharacterDevice(device) if allowed(rules, DeviceKind::Character, device) => {
                self.node(FileType::CharacterDevice, makedev(device.major, device.minor)).map_err(&fail)?;
            }
            Kind::BlockDevice(device) if allowed(rules, DeviceKind::Block, device) => {
                self.node(FileType::BlockDevice, makedev(device.major, device.minor)).map_err(&fail)?;
            }
            Kind::CharacterDevice(_) | Kind::BlockDevice(_) | Kind::Directory => return Ok(None),
        }
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

fn allowed(rules: &[DeviceRule], kind: DeviceKind, device: Device) -> bool {
    let fits = |wanted: Option<u32>, number| wanted.is_none_or(|wanted| wanted == number);
    rules
        .iter()
        .any(|rule| rule.kind == kind && fits(rule.major, device.major) && fits(rule.minor, device.minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_devices_are_allowed() {
        let null = Device { major: 1, minor: 3 };
        let rule = |kind, major, minor| DeviceRule { kind, major, minor };
        let character = DeviceKind::Character;
        assert!(!allowed(&[], character, null));
        assert!(!allowed(&[rule(DeviceKind::Block, None, None)], character, null));
        assert!(!allowed(&[rule(character, Some(1), Some(5))], character, null));
        assert!(allowed(&[rule(character, Some(2), None), rule(character, Some(1), None)], character, null));
        assert!(allowed(&[rule(character, Some(1), Some(3))], character, null));
    }
}
