//! What a container may give the files of its root: what its capabilities let it do, whatever its kernel says that it did.
//!
//! In: the attributes of a file on the scratch disk, and the file of that name on the host. Out: the attributes without the
//! privileges that the container could not have given. What the host's file has already is kept, as long as it is the same file:
//! an image's own privileges are none of the container's making. It must never know what a capability is.

use std::{fs::File, ops::RangeInclusive};

use rustix::fs::{Mode, fstat};
use rustix::io::Errno;

use super::attributes::{Attributes, has};
use super::copy::Copier;
use super::{DeviceKind, DeviceRule};
use crate::tree::{Device, Xattr};

const CAPABILITY: &[u8] = b"security.capability";
/// `VFS_CAP_REVISION_MASK` and `VFS_CAP_REVISION_3` of linux/capability.h, in the first word, little-endian.
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_3: u32 = 0x0300_0000;
/// `rootid` of `struct vfs_ns_cap_data`.
const ROOT_ID: std::ops::Range<usize> = 20..24;

/// Numbers of users or of groups; nobody's by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<RangeInclusive<u32>>);

impl Ids {
    /// Everybody's.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![0..=u32::MAX])
    }

    fn has(&self, id: u32) -> bool {
        self.0.iter().any(|range| range.contains(&id))
    }
}

/// What may appear in the root that was not there before. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Device nodes. Others are left out, and told of.
    pub devices: Vec<DeviceRule>,
    /// Whose set-user-ID programs.
    pub set_uid: Ids,
    /// Whose set-group-ID programs.
    pub set_gid: Ids,
    /// Programs with capabilities, by the user that is root where these hold: 0 outside of user namespaces.
    pub capabilities: Ids,
    /// Attributes `trusted.*`.
    pub trusted: bool,
}

impl Rights {
    /// Everything, as for a container with all capabilities that may use all devices.
    #[must_use]
    pub fn all() -> Self {
        let devices = [DeviceKind::Character, DeviceKind::Block];
        Self {
            devices: devices.map(|kind| DeviceRule { kind, major: None, minor: None }).to_vec(),
            set_uid: Ids::all(),
            set_gid: Ids::all(),
            capabilities: Ids::all(),
            trusted: true,
        }
    }

    pub(super) fn has_device(&self, kind: DeviceKind, device: Device) -> bool {
        let fits = |wanted: Option<u32>, number| wanted.is_none_or(|wanted| wanted == number);
        self.devices
            .iter()
            .any(|rule| rule.kind == kind && fits(rule.major, device.major) && fits(rule.minor, device.minor))
    }

    fn has_attribute(&self, xattr: &Xattr) -> bool {
        if xattr.name == CAPABILITY {
            return self.capabilities.has(root_of(&xattr.value));
        }
        self.trusted || !xattr.name.starts_with(b"trusted.")
    }

    fn without(&self, attributes: &Attributes) -> Mode {
        let mut taken = Mode::empty();
        taken.set(Mode::SUID, !self.set_uid.has(attributes.uid.as_raw()));
        taken.set(Mode::SGID, !self.set_gid.has(attributes.gid.as_raw()));
        taken & attributes.mode
    }

    /// Takes away what a program may not have. `made` is the file with its content; `old` opens the host's of that name, if it is
    /// a file.
    pub(super) fn limit_program(
        &self,
        attributes: &mut Attributes,
        made: &File,
        copier: &mut Copier,
        old: impl FnOnce() -> Option<File>,
    ) -> Result<(), Errno> {
        let taken = self.without(attributes);
        if taken.is_empty() && attributes.xattrs.iter().all(|xattr| self.has_attribute(xattr)) {
            return Ok(());
        }
        let old = match old() {
            Some(old) if copier.is_same(made, &old)? => Some(old),
            _ => None,
        };
        if !taken.is_empty() {
            let had = old.as_ref().map(fstat).transpose()?.is_some_and(|stat| {
                (stat.st_uid, stat.st_gid) == (attributes.uid.as_raw(), attributes.gid.as_raw())
                    && stat.st_mode & 0o7777 == attributes.mode.bits()
            });
            if !had {
                attributes.mode -= taken;
                attributes.dropped += 1;
            }
        }
        self.limit_attributes(attributes, |xattr| old.as_ref().is_some_and(|old| has(old, xattr)));
        Ok(())
    }

    /// Takes away what a directory may not have, of which `old` is the host's: capabilities and set IDs are nothing there.
    pub(super) fn limit_directory(&self, attributes: &mut Attributes, old: impl std::os::fd::AsFd) {
        self.limit_attributes(attributes, |xattr| xattr.name == CAPABILITY || has(&old, xattr));
    }

    /// Takes away what a file of another kind may not have.
    pub(super) fn limit_other(&self, attributes: &mut Attributes) {
        self.limit_attributes(attributes, |_| false);
    }

    fn limit_attributes(&self, attributes: &mut Attributes, kept: impl Fn(&Xattr) -> bool) {
        let before = attributes.xattrs.len();
        attributes.xattrs.retain(|xattr| self.has_attribute(xattr) || kept(xattr));
        attributes.dropped += u64::try_from(before - attributes.xattrs.len()).expect("a count fits");
    }
}

/// Who is root where a file's capabilities hold.
fn root_of(value: &[u8]) -> u32 {
    let word =
        |range| value.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u32::from_le_bytes);
    match word(0..4) {
        Some(magic) if magic & REVISION_MASK == REVISION_3 => word(ROOT_ID).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_devices_are_allowed() {
        let null = Device { major: 1, minor: 3 };
        let rule = |kind, major, minor| DeviceRule { kind, major, minor };
        let character = DeviceKind::Character;
        let allowed = |devices: &[DeviceRule]| {
            Rights { devices: devices.to_vec(), ..Rights::default() }.has_device(character, null)
        };
        assert!(!allowed(&[]));
        assert!(!allowed(&[rule(DeviceKind::Block, None, None)]));
        assert!(!allowed(&[rule(character, Some(1), Some(5))]));
        assert!(allowed(&[rule(character, Some(2), None), rule(character, Some(1), None)]));
        assert!(allowed(&[rule(character, Some(1), Some(3))]));
    }

    #[test]
    fn capabilities_hold_for_a_root() {
        let second = [0x0200_0001_u32, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
        let third = [0x0300_0001_u32, 1 << 10, 0, 0, 0, 100_000].map(u32::to_le_bytes).concat();
        for (value, root) in [(&second[..], 0), (&third[..], 100_000), (&third[..20], 0), (b"", 0)] {
            assert_eq!(root_of(value), root);
        }
        let mapped = Rights { capabilities: Ids(vec![100_000..=165_535]), ..Rights::default() };
        let xattr = |value: &[u8]| Xattr { name: CAPABILITY.to_vec(), value: value.to_vec() };
        assert!(mapped.has_attribute(&xattr(&third)) && !mapped.has_attribute(&xattr(&second)));
        assert!(!Rights::default().has_attribute(&xattr(&third)));
        assert!(Rights::all().has_attribute(&xattr(&second)));
    }
}
