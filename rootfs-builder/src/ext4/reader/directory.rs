//! The names in a directory, read from its first block to its last; of a hashed one too, whose index looks like free space.
//!
//! In: an inode. Out: names, lawful and not `.` nor `..`, with the inodes' numbers; not sorted, and perhaps not unique.
//! It must never know what is under a name.

use super::disk::{BLOCK, Disk, parse};
use super::error::DiskError;
use super::extents::{self, Budget, Extent};
use super::inode::Inode;
use crate::ext4::spec::{BLOCK_SIZE, DirEntry};

/// Shows each name to `each`.
pub(super) fn walk<E: From<DiskError>>(
    disk: &Disk,
    inode: &Inode,
    budget: &mut Budget,
    each: &mut impl FnMut(&[u8], u32) -> Result<(), E>,
) -> Result<(), E> {
    let broken = |what| DiskError::Inode { inode: inode.number, what };
    let blocks = inode.size / BLOCK_SIZE;
    if !inode.size.is_multiple_of(BLOCK_SIZE) || blocks == 0 {
        return Err(broken("a directory's size is not one of whole blocks").into());
    }
    let mut expected = 0;
    extents::walk(disk, inode, budget, &mut |extent: Extent| {
        if expected == blocks {
            return Ok(());
        }
        if extent.file != expected {
            return Err(broken("a directory has a hole").into());
        }
        let count = extent.count.min(blocks - expected);
        for index in 0..count {
            names(inode.number, &disk.block(extent.disk + index)?, expected + index == 0, each)?;
        }
        expected += count;
        Ok::<(), E>(())
    })?;
    if expected == blocks { Ok(()) } else { Err(broken("a directory is shorter than it says").into()) }
}

/// The names in one block.
fn names<E: From<DiskError>>(
    inode: u32,
    block: &[u8; BLOCK],
    first: bool,
    each: &mut impl FnMut(&[u8], u32) -> Result<(), E>,
) -> Result<(), E> {
    let broken = |what| E::from(DiskError::Inode { inode, what });
    let head = size_of::<DirEntry>();
    let mut position = 0;
    let mut index = 0;
    while position < BLOCK {
        let entry: DirEntry =
            parse(&block[position..]).ok_or_else(|| broken("a directory's entry is cut off"))?;
        let length = usize::from(entry.rec_len.get());
        let name_end = head + usize::from(entry.name_len);
        if length % 4 != 0 || length < head || name_end > length || length > BLOCK - position {
            return Err(broken("a directory's entry has an impossible length"));
        }
        if entry.inode.get() != 0 {
            let name = &block[position + head..position + name_end];
            match (name, first, index) {
                (b".", true, 0) | (b"..", true, 1) => {}
                (b"." | b".." | b"", ..) => return Err(broken("a directory has an unlawful name")),
                _ if name.contains(&b'/') || name.contains(&0) => {
                    return Err(broken("a directory has an unlawful name"));
                }
                _ => each(name, entry.inode.get())?,
            }
        }
        position += length;
        index += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block with these entries: inode, declared length, name.
    fn block(entries: &[(u32, u16, &[u8])]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut position = 0;
        for (inode, length, name) in entries {
            block[position..position + 4].copy_from_slice(&inode.to_le_bytes());
            block[position + 4..position + 6].copy_from_slice(&length.to_le_bytes());
            block[position + 6] = u8::try_from(name.len()).unwrap();
            block[position + 8..position + 8 + name.len()].copy_from_slice(name);
            position += usize::from(*length);
        }
        block
    }

    fn read(block: &[u8; BLOCK], first: bool) -> Result<Vec<(Vec<u8>, u32)>, DiskError> {
        let mut all = Vec::new();
        names(2, block, first, &mut |name: &[u8], inode| {
            all.push((name.to_vec(), inode));
            Ok::<(), DiskError>(())
        })?;
        Ok(all)
    }

    #[test]
    fn names_are_found_and_free_space_is_not() {
        let block = block(&[(2, 12, b"."), (2, 12, b".."), (0, 16, b"gone"), (12, 4056, b"\xff name")]);
        assert_eq!(read(&block, true).unwrap(), [(b"\xff name".to_vec(), 12)]);
    }

    #[test]
    fn unlawful_blocks_are_refused() {
        let cases: [&[(u32, u16, &[u8])]; 9] = [
            &[(12, 4096, b"..")],
            &[(12, 4096, b"")],
            &[(12, 4096, b"a/b")],
            &[(12, 4096, b"a\0")],
            &[(12, 12, b"too long")],
            &[(12, 4092, b"a")],
            &[(12, 14, b"a"), (12, 4082, b"b")],
            &[(12, 0, b"")],
            &[(12, 4, b"")],
        ];
        for case in cases {
            assert!(read(&block(case), false).is_err(), "{case:?}");
        }
        assert!(read(&block(&[(12, 12, b".."), (12, 4084, b".")]), true).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), BLOCK), first: bool) {
            let block: [u8; BLOCK] = bytes.try_into().unwrap();
            if let Ok(all) = read(&block, first) {
                prop_assert!(all.iter().all(|(name, _)| !name.is_empty() && !name.contains(&b'/')));
            }
        }
    }
}
