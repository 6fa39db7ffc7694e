//! The bytes of an empty file system, and the file.
//!
//! In: a path and a size. Out: the image, complete under its name or not there; three or four writes.
//! It must never know where a number comes from: that is the geometry's.
//!
//! All times are zero and the identity is a constant, so the same size gives the same image.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zerocopy::FromZeros;
use zerocopy::IntoBytes;
use zerocopy::big_endian::U32 as Be32;
use zerocopy::little_endian::{U16, U32};

use super::geometry::{Geometry, SIZE_MAX, SIZE_MIN};
use super::spec::{
    BG_BLOCK_UNINIT, BG_INODE_UNINIT, BG_INODE_ZEROED, BLOCK_SIZE, BLOCKS_PER_GROUP, DEFM_XATTR_USER_ACL,
    DESC_SIZE, DX_HASH_HALF_MD4, DYNAMIC_REV, DirEntry, ERRORS_RO, EXT_MAGIC, EXT_MAX, EXTENTS_FL,
    EXTRA_ISIZE, ExtentRoot, FEATURE_COMPAT, FEATURE_INCOMPAT, FEATURE_RO_COMPAT, FIRST_INO,
    FLAGS_SIGNED_HASH, GroupDesc, INODE_SIZE, INODES_PER_GROUP, Inode, JBD2_MAGIC_NUMBER, JBD2_SUPERBLOCK_V2,
    JNL_BACKUP_BLOCKS, JOURNAL_INO, JournalSuperBlock, LOG_BLOCK_SIZE, ROOT_INO, SUPER_MAGIC, SUPER_OFFSET,
    SuperBlock, VALID_FS,
};
use crate::checksum::crc16;
use crate::output::{Durability, Output, OutputError};

/// `s_uuid` and `s_hash_seed`. The guest has one such disk, and names that collide in its hash hurt nobody else.
pub(super) const UUID: [u8; 16] = *b"msb-scratch-disk";
/// `s_volume_name`.
const LABEL: [u8; 16] = *b"msb-scratch\0\0\0\0\0";
/// `EXT4_FT_DIR`, the `file_type` of a directory's entry.
const FT_DIR: u8 = 2;
/// One block, for buffers.
const BLOCK: usize = 4096;

/// No scratch disk could be made.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Too small or too large.
    #[error("A scratch disk of {size} bytes is not possible: choose between {SIZE_MIN} and {SIZE_MAX}")]
    Size {
        /// What was asked for.
        size: u64,
    },
    /// Writing it.
    #[error(
        "Cannot write the scratch disk {path:?}: check the free space and the largest file allowed there"
    )]
    Write {
        /// The image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Making or naming its file.
    #[error("Cannot store the scratch disk")]
    Output(#[from] OutputError),
}

/// Writes an empty ext4 file system to `path`, a sparse file of `size_bytes`, replacing what was there. For one run: it need
/// not survive the host's crash.
///
/// # Errors
/// [`ScratchError`]; `path` is then as it was before.
pub fn create_scratch(path: &Path, size_bytes: u64) -> Result<(), ScratchError> {
    create_scratch_with(path, size_bytes, Durability::Throwaway)
}

/// [`create_scratch`], with a choice of what has to survive.
///
/// # Errors
/// [`ScratchError`]; `path` is then as it was before.
pub fn create_scratch_with(path: &Path, size_bytes: u64, durability: Durability) -> Result<(), ScratchError> {
    let geometry = Geometry::of(size_bytes).ok_or(ScratchError::Size { size: size_bytes })?;
    let output = Output::create(path)?;
    let file = output.file();
    let written = file.set_len(size_bytes).and_then(|()| {
        pieces(&geometry).iter().try_for_each(|(block, bytes)| file.write_all_at(bytes, block * BLOCK_SIZE))
    });
    written.map_err(|source| ScratchError::Write { path: path.to_owned(), source })?;
    Ok(output.commit(durability)?)
}

/// All that is not zero in the image: blocks by the number of the first.
fn pieces(geometry: &Geometry) -> Vec<(u64, Vec<u8>)> {
    let mut head = vec![0; BLOCK];
    let super_block = super_block(geometry);
    head[SUPER_OFFSET..SUPER_OFFSET + size_of::<SuperBlock>()].copy_from_slice(super_block.as_bytes());
    for group in 0..geometry.groups {
        head.extend_from_slice(descriptor(geometry, group).as_bytes());
    }
    head.resize(head.len().next_multiple_of(BLOCK), 0);
    head.extend_from_slice(&bitmap(geometry.used(0), geometry.group_blocks(0)));
    head.extend_from_slice(&bitmap(FIRST_INO.into(), INODES_PER_GROUP.into()));
    head.extend_from_slice(&first_inodes(geometry));

    let mut content = directory(&[(ROOT_INO, b"."), (ROOT_INO, b".."), (FIRST_INO, b"lost+found")]);
    content.extend_from_slice(&directory(&[(FIRST_INO, b"."), (ROOT_INO, b"..")]));
    content.extend_from_slice(journal_super_block(geometry).as_bytes());

    let mut pieces = vec![(0, head), (geometry.root_directory(), content)];
    if geometry.groups > 1 {
        // Its end is the file system's, and mke2fs always writes it.
        let last = geometry.groups - 1;
        pieces.push((geometry.block_bitmap(last), bitmap(geometry.used(last), geometry.group_blocks(last))));
    }
    pieces
}

fn super_block(geometry: &Geometry) -> SuperBlock {
    let journal = journal_inode(geometry);
    let (blocks_lo, blocks_hi) = halves(geometry.blocks);
    let (free_lo, free_hi) = halves(geometry.free());
    let (inodes, _) = halves(geometry.groups * u64::from(INODES_PER_GROUP));
    let (overhead, _) = halves(geometry.overhead());
    let mut block = SuperBlock::new_zeroed();
    block.s_inodes_count = inodes;
    block.s_blocks_count_lo = blocks_lo;
    block.s_blocks_count_hi = blocks_hi;
    block.s_free_blocks_count_lo = free_lo;
    block.s_free_blocks_count_hi = free_hi;
    block.s_free_inodes_count = U32::new(inodes.get() - FIRST_INO);
    block.s_log_block_size = U32::new(LOG_BLOCK_SIZE);
    block.s_log_cluster_size = U32::new(LOG_BLOCK_SIZE);
    block.s_blocks_per_group = halves(BLOCKS_PER_GROUP).0;
    block.s_clusters_per_group = halves(BLOCKS_PER_GROUP).0;
    block.s_inodes_per_group = U32::new(INODES_PER_GROUP);
    block.s_max_mnt_count = U16::MAX_VALUE;
    block.s_magic = U16::new(SUPER_MAGIC);
    block.s_state = U16::new(VALID_FS);
    block.s_errors = U16::new(ERRORS_RO);
    block.s_rev_level = U32::new(DYNAMIC_REV);
    block.s_first_ino = U32::new(FIRST_INO);
    block.s_inode_size = U16::new(INODE_SIZE);
    block.s_feature_compat = U32::new(FEATURE_COMPAT);
    block.s_feature_incompat = U32::new(FEATURE_INCOMPAT);
    block.s_feature_ro_compat = U32::new(FEATURE_RO_COMPAT);
    block.s_uuid = UUID;
    block.s_volume_name = LABEL;
    block.s_journal_inum = U32::new(JOURNAL_INO);
    block.s_hash_seed = UUID;
    block.s_def_hash_version = DX_HASH_HALF_MD4;
    block.s_jnl_backup_type = JNL_BACKUP_BLOCKS;
    block.s_desc_size = U16::new(DESC_SIZE);
    block.s_default_mount_opts = U32::new(DEFM_XATTR_USER_ACL);
    block.s_jnl_blocks.copy_from_slice(journal.i_block.as_bytes());
    block.s_jnl_size_high = journal.i_size_high;
    block.s_jnl_size_lo = journal.i_size_lo;
    block.s_min_extra_isize = U16::new(EXTRA_ISIZE);
    block.s_want_extra_isize = U16::new(EXTRA_ISIZE);
    block.s_flags = U32::new(FLAGS_SIGNED_HASH);
    block.s_log_groups_per_flex = 4;
    block.s_overhead_clusters = overhead;
    block
}

fn descriptor(geometry: &Geometry, group: u64) -> GroupDesc {
    let (block_bitmap, block_bitmap_hi) = halves(geometry.block_bitmap(group));
    let (inode_bitmap, inode_bitmap_hi) = halves(geometry.inode_bitmap(group));
    let (inode_table, inode_table_hi) = halves(geometry.inode_table(group));
    let (used_inodes, directories, mut flags) = match group {
        0 => (FIRST_INO, 2, BG_INODE_ZEROED),
        _ => (0, 0, BG_INODE_ZEROED | BG_INODE_UNINIT),
    };
    if group > 0 && group < geometry.groups - 1 {
        flags |= BG_BLOCK_UNINIT;
    }
    let free_inodes = small(u64::from(INODES_PER_GROUP - used_inodes));
    let mut descriptor = GroupDesc::new_zeroed();
    descriptor.bg_block_bitmap_lo = block_bitmap;
    descriptor.bg_block_bitmap_hi = block_bitmap_hi;
    descriptor.bg_inode_bitmap_lo = inode_bitmap;
    descriptor.bg_inode_bitmap_hi = inode_bitmap_hi;
    descriptor.bg_inode_table_lo = inode_table;
    descriptor.bg_inode_table_hi = inode_table_hi;
    descriptor.bg_free_blocks_count_lo = small(geometry.group_blocks(group) - geometry.used(group));
    descriptor.bg_free_inodes_count_lo = free_inodes;
    descriptor.bg_used_dirs_count_lo = U16::new(directories);
    descriptor.bg_itable_unused_lo = free_inodes;
    descriptor.bg_flags = U16::new(flags);
    descriptor.bg_checksum = U16::new(checksum(&descriptor, group));
    descriptor
}

/// `ext4_group_desc_csum()` with `gdt_csum`: over the UUID, the group's number, and the descriptor without the field itself.
pub(super) fn checksum(descriptor: &GroupDesc, group: u64) -> u16 {
    let field = std::mem::offset_of!(GroupDesc, bg_checksum);
    let bytes = descriptor.as_bytes();
    let seed = crc16(crc16(!0, &UUID), halves(group).0.as_bytes());
    crc16(crc16(seed, &bytes[..field]), &bytes[field + 2..])
}

/// A bitmap whose first `used` bits are set, and those from `end` on, which stand for nothing.
fn bitmap(used: u64, end: u64) -> Vec<u8> {
    let byte = |index: u64| {
        (0..8).filter(|bit| (index * 8 + bit) < used || (index * 8 + bit) >= end).map(|bit| 1 << bit).sum()
    };
    (0..BLOCK_SIZE).map(byte).collect()
}

/// The first block of the inode table.
fn first_inodes(geometry: &Geometry) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let inodes = [
        (ROOT_INO, inode(0o040_755, 3, geometry.root_directory(), 1)),
        (JOURNAL_INO, journal_inode(geometry)),
        (FIRST_INO, inode(0o040_700, 2, geometry.lost_and_found(), 1)),
    ];
    for (number, inode) in inodes {
        let position = usize::try_from(number - 1).expect("a small constant") * size_of::<Inode>();
        block[position..position + size_of::<Inode>()].copy_from_slice(inode.as_bytes());
    }
    block
}

fn journal_inode(geometry: &Geometry) -> Inode {
    inode(0o100_600, 1, geometry.first_journal(), geometry.journal)
}

/// An inode of root's whose data is in one piece of `count` blocks.
fn inode(mode: u16, links: u16, first_block: u64, count: u64) -> Inode {
    let (start, _) = halves(first_block);
    let (size_lo, size_high) = halves(count * BLOCK_SIZE);
    let mut inode = Inode::new_zeroed();
    inode.i_mode = U16::new(mode);
    inode.i_links_count = U16::new(links);
    inode.i_size_lo = size_lo;
    inode.i_size_high = size_high;
    // In sectors of 512 bytes.
    inode.i_blocks_lo = halves(count * (BLOCK_SIZE / 512)).0;
    inode.i_flags = U32::new(EXTENTS_FL);
    inode.i_extra_isize = U16::new(EXTRA_ISIZE);
    inode.i_block = ExtentRoot::new_zeroed();
    inode.i_block.eh_magic = U16::new(EXT_MAGIC);
    inode.i_block.eh_entries = U16::new(1);
    inode.i_block.eh_max = U16::new(EXT_MAX);
    inode.i_block.ee_len = small(count);
    inode.i_block.ee_start_lo = start;
    inode
}

/// A directory's block with these subdirectories; the last entry reaches to its end.
fn directory(entries: &[(u32, &[u8])]) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    for (index, (inode, name)) in entries.iter().enumerate() {
        let own = (size_of::<DirEntry>() + name.len()).next_multiple_of(4);
        let length = if index + 1 == entries.len() { BLOCK - block.len() } else { own };
        let entry = DirEntry {
            inode: U32::new(*inode),
            rec_len: U16::new(u16::try_from(length).expect("no more than a block")),
            name_len: u8::try_from(name.len()).expect("a short constant"),
            file_type: FT_DIR,
        };
        let start = block.len();
        block.extend_from_slice(entry.as_bytes());
        block.extend_from_slice(name);
        block.resize(start + length, 0);
    }
    block
}

/// An empty journal: `s_start` of zero says that there is nothing to replay.
fn journal_super_block(geometry: &Geometry) -> JournalSuperBlock {
    let big = |value: u64| Be32::new(halves(value).0.get());
    let mut block = JournalSuperBlock::new_zeroed();
    block.h_magic = Be32::new(JBD2_MAGIC_NUMBER);
    block.h_blocktype = Be32::new(JBD2_SUPERBLOCK_V2);
    block.s_blocksize = big(BLOCK_SIZE);
    block.s_maxlen = big(geometry.journal);
    block.s_first = Be32::new(1);
    block.s_sequence = Be32::new(1);
    block.s_uuid = UUID;
    block.s_nr_users = Be32::new(1);
    block
}

/// The lower and the upper 32 bits.
fn halves(value: u64) -> (U32, U32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (U32::from_bytes([a, b, c, d]), U32::from_bytes([e, f, g, h]))
}

fn small(value: u64) -> U16 {
    U16::new(u16::try_from(value).expect("a group has 32768 blocks and fewer inodes"))
}
