//! Extended attributes, in the inode and in a block of their own, as getxattr(2) would give them.
//!
//! In: an inode. Out: whole names and values; access control lists translated from ext4's form to the kernel's.
//! Values in inodes of their own (`ea_inode`) are a feature that we do not make: refused.
//! It must never know which attributes matter to whom.

use zerocopy::little_endian::{U16, U32};

use super::disk::{Disk, parse};
use super::error::DiskError;
use super::inode::Inode;
use super::spec::{ACL_VERSION, XATTR_MAGIC, XattrEntry, XattrHeader};
use crate::tree::Xattr;

/// `POSIX_ACL_XATTR_VERSION` of linux/posix_acl_xattr.h.
const POSIX_ACL_XATTR_VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID` of linux/posix_acl.h.
const ACL_UNDEFINED_ID: u32 = !0;
/// `ACL_USER` and `ACL_GROUP`: the only tags with an id.
const NAMED: [u16; 2] = [0x02, 0x08];

/// All attributes of `inode`, sorted by name.
pub(super) fn read(disk: &Disk, inode: &Inode) -> Result<Vec<Xattr>, DiskError> {
    let mut all = Vec::new();
    let broken = |what| DiskError::Inode { inode: inode.number, what };
    if parse::<U32>(&inode.rest).is_some_and(|magic| magic.get() == XATTR_MAGIC) {
        let entries = &inode.rest[size_of::<U32>()..];
        list(entries, 0, &mut all).map_err(broken)?;
    }
    if inode.attributes_at != 0 {
        let block = disk.block(inode.attributes_at)?;
        let header: XattrHeader = parse(&block).expect("a block is longer");
        if header.h_magic.get() != XATTR_MAGIC || header.h_blocks.get() != 1 {
            return Err(broken("its block of attributes is none"));
        }
        list(&block, size_of::<XattrHeader>(), &mut all).map_err(broken)?;
    }
    all.sort_unstable();
    if all.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err(broken("it has an attribute twice"));
    }
    Ok(all)
}

/// The entries from `position` on; their values are somewhere in `bytes`.
fn list(bytes: &[u8], mut position: usize, all: &mut Vec<Xattr>) -> Result<(), &'static str> {
    let head = size_of::<XattrEntry>();
    // Not more values than bytes: they cannot overlap in what the kernel wrote.
    let mut left = bytes.len();
    loop {
        let rest = bytes.get(position..).unwrap_or_default();
        match parse::<U32>(rest) {
            Some(end) if end.get() == 0 => return Ok(()),
            // Not even room for the end: the kernel leaves it out when the entries reach to the last byte.
            None => return Ok(()),
            Some(_) => {}
        }
        let entry: XattrEntry = parse(rest).ok_or("an attribute is cut off")?;
        let name_end = head + usize::from(entry.e_name_len);
        let name = rest.get(head..name_end).ok_or("an attribute's name is cut off")?;
        if entry.e_value_inum.get() != 0 {
            return Err("an attribute's value is in another inode");
        }
        let size = usize::try_from(entry.e_value_size.get()).map_err(|_| "an attribute is too large")?;
        left = left.checked_sub(size).ok_or("its attributes are too large")?;
        let value = match size {
            0 => &[][..],
            _ => {
                let start = usize::from(entry.e_value_offs.get());
                bytes.get(start..start + size).ok_or("an attribute's value is cut off")?
            }
        };
        all.push(whole(entry.e_name_index, name, value)?);
        position += name_end.next_multiple_of(4);
    }
}

/// `EXT4_XATTR_INDEX_*` to the prefix it stands for.
fn whole(index: u8, name: &[u8], value: &[u8]) -> Result<Xattr, &'static str> {
    let prefix: &[u8] = match index {
        1 => b"user.",
        2 => return list_of(b"system.posix_acl_access", name, value),
        3 => return list_of(b"system.posix_acl_default", name, value),
        4 => b"trusted.",
        6 => b"security.",
        7 => b"system.",
        _ => return Err("an attribute has an unknown prefix"),
    };
    if name.is_empty() || name.contains(&0) || prefix.len() + name.len() > 255 {
        return Err("an attribute has an unlawful name");
    }
    Ok(Xattr { name: [prefix, name].concat(), value: value.to_vec() })
}

/// An access control list: `ext4_acl_header`, then `ext4_acl_entry` or `ext4_acl_entry_short` of what has no id.
fn list_of(whole: &[u8], name: &[u8], value: &[u8]) -> Result<Xattr, &'static str> {
    const WRONG: &str = "an access control list is broken";
    let version: U32 = parse(value).ok_or(WRONG)?;
    if !name.is_empty() || version.get() != ACL_VERSION {
        return Err(WRONG);
    }
    let mut translated = POSIX_ACL_XATTR_VERSION.to_le_bytes().to_vec();
    let mut rest = &value[size_of::<U32>()..];
    while !rest.is_empty() {
        let tag: U16 = parse(rest).ok_or(WRONG)?;
        let short = rest.get(..4).ok_or(WRONG)?;
        translated.extend_from_slice(short);
        rest = &rest[4..];
        if NAMED.contains(&tag.get()) {
            translated.extend_from_slice(rest.get(..4).ok_or(WRONG)?);
            rest = &rest[4..];
        } else {
            translated.extend_from_slice(&ACL_UNDEFINED_ID.to_le_bytes());
        }
    }
    Ok(Xattr { name: whole.to_vec(), value: translated })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_access_control_list_is_translated() {
        let short = [1, 0, 6, 0];
        let named = [2, 0, 4, 0, 0xe8, 3, 0, 0];
        let value = [&1_u32.to_le_bytes()[..], &short, &named].concat();
        let list = whole(2, b"", &value).unwrap();
        assert_eq!(list.name, b"system.posix_acl_access");
        let expected = [&2_u32.to_le_bytes()[..], &short, &[0xff; 4], &named].concat();
        assert_eq!(list.value, expected);
        for cut in 5..value.len() {
            if cut != 8 {
                assert!(whole(2, b"", &value[..cut]).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn values_in_other_inodes_are_refused() {
        let entry =
            [&[1, 1, 0, 0][..], &12_u32.to_le_bytes(), &[1, 0, 0, 0, 0, 0, 0, 0], b"a\0\0\0", &[0; 8]];
        let error = list(&entry.concat(), 0, &mut Vec::new()).unwrap_err();
        assert!(error.contains("another inode"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512), start in 0_usize..64) {
            let mut all = Vec::new();
            if list(&bytes, start, &mut all).is_ok() {
                prop_assert!(all.iter().map(|xattr| xattr.value.len()).sum::<usize>() <= 3 * bytes.len());
            }
        }
    }
}
