//! Reads the metadata of an image back, for tests, and refuses all that the kernel or we would not want there.
//!
//! In: an image's first bytes. Out: every path with its inode.
//! It must never use the layout's code: only the structures are shared.

#![allow(clippy::unwrap_used, reason = "a test's, and its fuzz target's")]

use std::collections::BTreeMap;
use std::ops::Range;

use zerocopy::FromBytes;

use super::spec::{
    BLOCK_SIZE, DATALAYOUT_SHIFT, Dirent, FLAT_INLINE, INODE_SLOT, InodeCompact, InodeExtended,
    SUPER_MAGIC_V1, SUPER_OFFSET, SuperBlock, XATTR_PREFIXES, XattrEntry, XattrIbodyHeader,
};
use crate::checksum::{SEED, crc32c};
use crate::tree::{Time, Xattr};

/// An inode as it stands in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) nid: u64,
    pub(super) extended: bool,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) mtime: Time,
    pub(super) size: u64,
    /// `i_u`: the first block or the device.
    pub(super) address: u32,
    pub(super) xattrs: Vec<Xattr>,
    /// Of a symbolic link.
    pub(super) target: Vec<u8>,
}

impl Found {
    fn is(&self, format: u16) -> bool {
        self.mode & 0o170_000 == format
    }
}

/// All paths of an image, relative to its root, which is the empty path.
pub(super) fn read(metadata: &[u8]) -> Result<BTreeMap<Vec<u8>, Found>, String> {
    let image = Image { metadata, super_block: super_block(metadata)? };
    let root = u64::from(image.super_block.root_nid.get());
    let mut found = BTreeMap::new();
    let mut pending = vec![(Vec::new(), root, root)];
    while let Some((path, nid, parent)) = pending.pop() {
        let (inode, content) = image.inode(nid)?;
        if inode.is(0o040_000) {
            let mut subdirectories = 0;
            for (name, child, file_type) in image.directory(content, nid, parent)? {
                let path = if path.is_empty() { name } else { [&path[..], b"/", &name].concat() };
                let format = image.inode(child)?.0.mode >> 12;
                // `fs_umode_to_ftype()`
                let expected = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6][usize::from(format)];
                check(file_type == expected, || format!("file type {file_type} of {path:?}"))?;
                subdirectories += u32::from(format == 4);
                pending.push((path, child, nid));
            }
            check(inode.links == 2 + subdirectories, || format!("{} links of {path:?}", inode.links))?;
        }
        check(found.insert(path, inode).is_none(), || "a path twice".to_owned())?;
    }
    let mut links: BTreeMap<u64, u32> = BTreeMap::new();
    found.values().for_each(|inode| *links.entry(inode.nid).or_default() += 1);
    for (path, inode) in &found {
        let names = links[&inode.nid];
        check(inode.is(0o040_000) || inode.links == names, || format!("{} links of {path:?}", inode.links))?;
    }
    check(image.super_block.inos.get() == links.len() as u64, || "the number of inodes".to_owned())?;
    Ok(found)
}

fn check(good: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(what()) }
}

fn super_block(metadata: &[u8]) -> Result<SuperBlock, String> {
    check(metadata.len() >= BLOCK_SIZE && metadata.len().is_multiple_of(BLOCK_SIZE), || {
        "no whole blocks".to_owned()
    })?;
    let (super_block, _) = SuperBlock::read_from_prefix(&metadata[SUPER_OFFSET..]).unwrap();
    check(super_block.magic.get() == SUPER_MAGIC_V1, || "magic".to_owned())?;
    let mut first = metadata[SUPER_OFFSET..BLOCK_SIZE].to_vec();
    first[4..8].fill(0);
    check(super_block.checksum.get() == crc32c(SEED, &first), || "checksum".to_owned())?;
    check(super_block.feature_incompat.get() == 0, || "features".to_owned())?;
    Ok(super_block)
}

struct Image<'a> {
    metadata: &'a [u8],
    super_block: SuperBlock,
}

impl<'a> Image<'a> {
    fn bytes(&self, range: Range<usize>) -> Result<&'a [u8], String> {
        self.metadata.get(range.clone()).ok_or_else(|| format!("{range:?} is outside of the metadata"))
    }

    /// An inode and the content of a directory or a symbolic link.
    fn inode(&self, nid: u64) -> Result<(Found, &'a [u8]), String> {
        let offset = usize::try_from(nid).unwrap() * INODE_SLOT;
        let compact = InodeCompact::read_from_bytes(self.bytes(offset..offset + INODE_SLOT)?).unwrap();
        let format = compact.i_format.get();
        let extended = format & 1 == 1;
        let header = if extended { 2 * INODE_SLOT } else { INODE_SLOT };
        let icount = usize::from(compact.i_xattr_icount.get());
        let xattrs = if icount == 0 { 0 } else { size_of::<XattrIbodyHeader>() + 4 * (icount - 1) };
        let mut found = Found {
            nid,
            extended,
            mode: compact.i_mode.get(),
            uid: compact.i_uid.get().into(),
            gid: compact.i_gid.get().into(),
            links: compact.i_nlink.get().into(),
            mtime: Time {
                seconds: self.super_block.build_time.get().cast_signed(),
                nanoseconds: self.super_block.build_time_nsec.get(),
            },
            size: compact.i_size.get().into(),
            address: compact.i_u.get(),
            xattrs: self.xattrs(offset + header..offset + header + xattrs)?,
            target: Vec::new(),
        };
        if extended {
            let inode = InodeExtended::read_from_bytes(self.bytes(offset..offset + header)?).unwrap();
            let seconds = inode.i_mtime.get().cast_signed();
            found.mtime = Time { seconds, nanoseconds: inode.i_mtime_nsec.get() };
            (found.uid, found.gid) = (inode.i_uid.get(), inode.i_gid.get());
            (found.links, found.size) = (inode.i_nlink.get(), inode.i_size.get());
            found.address = inode.i_u.get();
        }
        let is_link = found.is(0o120_000);
        if !is_link && !found.is(0o040_000) {
            check(format >> DATALAYOUT_SHIFT == 0, || format!("the layout of inode {nid}"))?;
            return Ok((found, &[]));
        }
        let size = usize::try_from(found.size).unwrap();
        let start = if format >> DATALAYOUT_SHIFT == FLAT_INLINE {
            let start = offset + header + xattrs;
            check(start % BLOCK_SIZE + size <= BLOCK_SIZE, || format!("{nid}: inline data crosses a block"))?;
            start
        } else {
            usize::try_from(found.address).unwrap() * BLOCK_SIZE
        };
        let content = self.bytes(start..start + size)?;
        if is_link {
            found.target = content.to_vec();
        }
        Ok((found, content))
    }

    fn xattrs(&self, range: Range<usize>) -> Result<Vec<Xattr>, String> {
        let bytes = self.bytes(range)?;
        let mut rest = bytes.get(size_of::<XattrIbodyHeader>()..).unwrap_or_default();
        let mut xattrs = Vec::new();
        while !rest.is_empty() {
            let (entry, behind) = XattrEntry::read_from_prefix(rest).map_err(|error| error.to_string())?;
            let (name, value) = (usize::from(entry.e_name_len), usize::from(entry.e_value_size.get()));
            let prefix = XATTR_PREFIXES.iter().find(|(index, _)| *index == entry.e_name_index).unwrap().1;
            let name_bytes = [prefix, &behind[..name]].concat();
            xattrs.push(Xattr { name: name_bytes, value: behind[name..name + value].to_vec() });
            rest = &rest[(size_of::<XattrEntry>() + name + value).next_multiple_of(4)..];
        }
        Ok(xattrs)
    }

    /// Names, inodes and types of a directory, without its own and its parent's.
    fn directory(&self, content: &[u8], own: u64, parent: u64) -> Result<Vec<(Vec<u8>, u64, u8)>, String> {
        let mut names: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in content.chunks(BLOCK_SIZE) {
            let dirent = |index: usize| Dirent::read_from_prefix(&block[index * 12..]).unwrap().0;
            let count = usize::from(dirent(0).nameoff.get()) / 12;
            for index in 0..count {
                let start = usize::from(dirent(index).nameoff.get());
                let end = if index + 1 < count {
                    usize::from(dirent(index + 1).nameoff.get())
                } else {
                    block[start..].iter().position(|byte| *byte == 0).map_or(block.len(), |end| start + end)
                };
                let name = block.get(start..end).ok_or("a name outside of its block")?;
                check((1..=255).contains(&name.len()), || "a name's length".to_owned())?;
                names.push((name.to_vec(), dirent(index).nid.get(), dirent(index).file_type));
            }
        }
        check(names.is_sorted_by(|a, b| a.0 < b.0), || format!("names of {own} are not sorted"))?;
        for (dots, nid) in [(b".".as_slice(), own), (b"..", parent)] {
            let position = names.iter().position(|(name, ..)| name == dots).ok_or("no dots")?;
            check(names.remove(position).1 == nid, || format!("{dots:?} of {own}"))?;
        }
        Ok(names)
    }
}
