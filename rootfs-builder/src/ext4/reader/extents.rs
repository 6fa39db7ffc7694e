//! Where a file's content is: its extent tree.
//!
//! In: an inode. Out: its extents in the order of the file, one by one.
//! The tree is hostile. It ends because each level must be one lower than the one above, no node but the root may be empty,
//! and each extent must begin behind the one before; and because all extents of all files are paid for from one [`Budget`].
//! It must never know what the content is.

use super::disk::{BLOCK, Disk, parse};
use super::error::DiskError;
use super::inode::Inode;
use super::spec::{EXT_INIT_MAX_LEN, ExtentHeader, ExtentIndex, ExtentLeaf, MAX_EXTENT_DEPTH};
use crate::ext4::spec::EXT_MAGIC;

/// A header, an extent and an index have the same size.
const ENTRY: usize = 12;

/// A piece of a file that has been written. In blocks of 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub file: u64,
    /// Where on the disk.
    pub disk: u64,
    /// How many.
    pub count: u64,
}

/// Blocks that may still be used by somebody: in an intact file system, no two files share one.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    blocks: u64,
}

impl Budget {
    /// As many as the disk has.
    pub(super) fn new(blocks: u64) -> Self {
        Self { blocks }
    }

    /// Takes `count` of them.
    pub(super) fn spend(&mut self, count: u64) -> Result<(), DiskError> {
        self.blocks = self.blocks.checked_sub(count).ok_or(DiskError::Overbooked)?;
        Ok(())
    }
}

/// Shows the extents of `inode` to `each`, in order. What is reserved but not written is a hole.
pub(super) fn walk<E: From<DiskError>>(
    disk: &Disk,
    inode: &Inode,
    budget: &mut Budget,
    each: &mut impl FnMut(Extent) -> Result<(), E>,
) -> Result<(), E> {
    let mut walk = Walk { disk, inode: inode.number, budget, position: 0, each };
    if !inode.extents {
        return Err(walk.broken("it has no extents").into());
    }
    walk.node(&inode.block, None)
}

struct Walk<'a, F> {
    disk: &'a Disk,
    inode: u32,
    budget: &'a mut Budget,
    /// The first block of the file that was not passed yet.
    position: u64,
    each: &'a mut F,
}

impl<F> Walk<'_, F> {
    fn broken(&self, what: &'static str) -> DiskError {
        DiskError::Inode { inode: self.inode, what }
    }

    /// The number of entries and the depth of a node, which must be `depth` if it is known.
    fn header(&self, bytes: &[u8], depth: Option<u16>) -> Result<(usize, u16), DiskError> {
        let header: ExtentHeader = parse(bytes).ok_or_else(|| self.broken("an extent node is cut off"))?;
        let entries = usize::from(header.eh_entries.get());
        let max = usize::from(header.eh_max.get());
        let found = header.eh_depth.get();
        if header.eh_magic.get() != EXT_MAGIC || entries > max || max > bytes.len() / ENTRY - 1 {
            return Err(self.broken("an extent node has a wrong header"));
        }
        if found > MAX_EXTENT_DEPTH || depth.is_some_and(|depth| depth != found || entries == 0) {
            return Err(self.broken("an extent node is at the wrong level, or empty"));
        }
        Ok((entries, found))
    }

    fn node<E: From<DiskError>>(&mut self, bytes: &[u8], depth: Option<u16>) -> Result<(), E>
    where
        F: FnMut(Extent) -> Result<(), E>,
    {
        let (entries, depth) = self.header(bytes, depth)?;
        for entry in bytes[ENTRY..].chunks_exact(ENTRY).take(entries) {
            if depth == 0 {
                self.leaf(entry)?;
                continue;
            }
            let index: ExtentIndex = parse(entry).expect("an entry has 12 bytes");
            if u64::from(index.ei_block.get()) < self.position {
                return Err(self.broken("its extents are out of order").into());
            }
            self.budget.spend(1)?;
            let at = u64::from(index.ei_leaf_lo.get()) | u64::from(index.ei_leaf_hi.get()) << 32;
            let child: Box<[u8; BLOCK]> = Box::new(self.disk.block(at)?);
            self.node(child.as_slice(), Some(depth - 1))?;
        }
        Ok(())
    }

    fn leaf<E: From<DiskError>>(&mut self, entry: &[u8]) -> Result<(), E>
    where
        F: FnMut(Extent) -> Result<(), E>,
    {
        let leaf: ExtentLeaf = parse(entry).expect("an entry has 12 bytes");
        let (count, written) = match leaf.ee_len.get() {
            length @ 0..=EXT_INIT_MAX_LEN => (u64::from(length), true),
            length => (u64::from(length - EXT_INIT_MAX_LEN), false),
        };
        let file = u64::from(leaf.ee_block.get());
        let disk = u64::from(leaf.ee_start_lo.get()) | u64::from(leaf.ee_start_hi.get()) << 32;
        if count == 0 || file < self.position || file + count > 1 << 32 {
            return Err(self.broken("its extents are out of order").into());
        }
        if disk == 0 || disk + count > self.disk.blocks {
            return Err(DiskError::Block { block: disk + count }.into());
        }
        self.budget.spend(count)?;
        self.position = file + count;
        if written { (self.each)(Extent { file, disk, count }) } else { Ok(()) }
    }
}
