//! Where everything is in an empty file system of a given size.
//!
//! In: a size in bytes. Out: block numbers and counts.
//! It must never know the structures that hold them.
//!
//! ```text
//! group 0     super block, descriptors of all groups, block bitmap, inode bitmap, inode table,
//!             root directory, lost+found, journal, free blocks
//! group n     block bitmap, inode bitmap, inode table, free blocks
//! ```

use super::spec::{BLOCK_SIZE, BLOCKS_PER_GROUP, DESC_SIZE, INODE_SIZE, INODES_PER_GROUP};

/// The smallest size in bytes: room for the inode table and the smallest journal.
pub const SIZE_MIN: u64 = 16 << 20;
/// The largest size in bytes: what a file can have on an ext4 host.
pub const SIZE_MAX: u64 = (16 << 40) - BLOCK_SIZE;

/// Blocks of one group's inode table.
const TABLE: u64 = INODES_PER_GROUP as u64 * INODE_SIZE as u64 / BLOCK_SIZE;
/// Blocks of metadata in every group: two bitmaps and the inode table.
const GROUP_METADATA: u64 = 2 + TABLE;
/// A last group with less than this is not worth its metadata. In blocks, as in mke2fs.
const GROUP_USE_MIN: u64 = 50;

/// An empty file system. Everything is in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// The whole file system.
    pub(super) blocks: u64,
    /// How many groups there are.
    pub(super) groups: u64,
    /// What the descriptors of all groups take, from block 1 on.
    pub(super) descriptors: u64,
    /// What the journal takes.
    pub(super) journal: u64,
}

impl Geometry {
    /// The largest file system within so many bytes, if there is one.
    pub(super) fn of(size: u64) -> Option<Self> {
        if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
            return None;
        }
        let mut blocks = size / BLOCK_SIZE;
        let rest = blocks % BLOCKS_PER_GROUP;
        if blocks > BLOCKS_PER_GROUP && rest < GROUP_METADATA + GROUP_USE_MIN {
            blocks -= rest;
        }
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let descriptors = (groups * u64::from(DESC_SIZE)).div_ceil(BLOCK_SIZE);
        // 4, 16 or 64 MiB. What the guest has once written there stays allocated on the host.
        let journal = match blocks {
            0..0x8000 => 1024,
            0x8000..0x4_0000 => 4096,
            _ => 16384,
        };
        Some(Self { blocks, groups, descriptors, journal })
    }

    /// Blocks in a group.
    pub(super) fn group_blocks(&self, group: u64) -> u64 {
        (self.blocks - group * BLOCKS_PER_GROUP).min(BLOCKS_PER_GROUP)
    }

    /// The block bitmap of a group; the inode bitmap and the inode table follow it.
    pub(super) fn block_bitmap(&self, group: u64) -> u64 {
        if group == 0 { 1 + self.descriptors } else { group * BLOCKS_PER_GROUP }
    }

    /// See [`Self::block_bitmap`].
    pub(super) fn inode_bitmap(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    /// See [`Self::block_bitmap`].
    pub(super) fn inode_table(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 2
    }

    /// The root directory's only block; that of lost+found and the journal follow it.
    pub(super) fn root_directory(&self) -> u64 {
        self.inode_table(0) + TABLE
    }

    /// See [`Self::root_directory`].
    pub(super) fn lost_and_found(&self) -> u64 {
        self.root_directory() + 1
    }

    /// See [`Self::root_directory`].
    pub(super) fn first_journal(&self) -> u64 {
        self.root_directory() + 2
    }

    /// How many blocks at a group's start are in use.
    pub(super) fn used(&self, group: u64) -> u64 {
        if group == 0 { self.first_journal() + self.journal } else { GROUP_METADATA }
    }

    /// Blocks free in all groups.
    pub(super) fn free(&self) -> u64 {
        self.blocks - self.used(0) - (self.groups - 1) * GROUP_METADATA
    }

    /// Blocks that can never hold a file (`s_overhead_clusters`): the kernel would have to count them at each mount.
    pub(super) fn overhead(&self) -> u64 {
        1 + self.descriptors + self.groups * GROUP_METADATA + self.journal
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_out_of_range_have_no_geometry() {
        for size in [0, SIZE_MIN - 1, SIZE_MAX + 1, u64::MAX] {
            assert_eq!(Geometry::of(size), None, "{size}");
        }
        assert!(Geometry::of(SIZE_MIN).is_some() && Geometry::of(SIZE_MAX).is_some());
    }

    proptest! {
        #[test]
        fn every_group_has_room_for_what_is_in_it(size in SIZE_MIN..=SIZE_MAX) {
            let geometry = Geometry::of(size).unwrap();
            prop_assert!(geometry.blocks * BLOCK_SIZE <= size);
            prop_assert!(size - geometry.blocks * BLOCK_SIZE < (GROUP_METADATA + GROUP_USE_MIN + 1) * BLOCK_SIZE);
            for group in [0, geometry.groups - 1] {
                prop_assert!(geometry.used(group) < geometry.group_blocks(group));
            }
            let used: u64 = geometry.used(0) + (geometry.groups - 1) * GROUP_METADATA;
            prop_assert_eq!(geometry.free(), geometry.blocks - used);
        }
    }
}
