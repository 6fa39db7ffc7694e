//! The structures on the disk, as `fs/ext4/ext4.h`, `ext4_extents.h` and `include/linux/jbd2.h` of Linux 6.12 have them.
//! Little-endian, but for the journal. Field names are the kernel's.
//!
//! In and out: bytes. It must never know what the fields are filled with.

use zerocopy::big_endian::U32 as Be32;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// In bytes; `s_log_block_size` is its logarithm less 10.
pub const BLOCK_SIZE: u64 = 4096;
/// See [`BLOCK_SIZE`].
pub const LOG_BLOCK_SIZE: u32 = 2;
/// A bitmap is one block: `8 * BLOCK_SIZE`.
pub const BLOCKS_PER_GROUP: u64 = 8 * BLOCK_SIZE;
/// One inode for 16 KiB, as mke2fs does.
pub const INODES_PER_GROUP: u32 = 8192;
/// In bytes: `s_inode_size`.
pub const INODE_SIZE: u16 = 256;
/// What of an inode lies behind the first 128 bytes: `i_extra_isize`.
pub const EXTRA_ISIZE: u16 = 32;
/// In bytes: `s_desc_size` with `64bit`.
pub const DESC_SIZE: u16 = 64;
/// In bytes from the image's start.
pub const SUPER_OFFSET: usize = 1024;

/// `EXT4_SUPER_MAGIC`.
pub const SUPER_MAGIC: u16 = 0xef53;
/// `EXT4_VALID_FS` in `s_state`.
pub const VALID_FS: u16 = 1;
/// `EXT4_ERRORS_RO` in `s_errors`: after an error, nothing more is written.
pub const ERRORS_RO: u16 = 2;
/// `EXT4_DYNAMIC_REV` in `s_rev_level`.
pub const DYNAMIC_REV: u32 = 1;
/// `EXT2_FLAGS_SIGNED_HASH` in `s_flags`.
pub const FLAGS_SIGNED_HASH: u32 = 1;
/// `DX_HASH_HALF_MD4` in `s_def_hash_version`.
pub const DX_HASH_HALF_MD4: u8 = 1;
/// `EXT4_DEFM_XATTR_USER | EXT4_DEFM_ACL` in `s_default_mount_opts`.
pub const DEFM_XATTR_USER_ACL: u32 = 0x4 | 0x8;
/// `EXT3_JNL_BACKUP_BLOCKS` in `s_jnl_backup_type`: `s_jnl_blocks` is filled.
pub const JNL_BACKUP_BLOCKS: u8 = 1;

/// `EXT4_FEATURE_COMPAT_*`: has_journal, ext_attr, dir_index, sparse_super2.
pub const FEATURE_COMPAT: u32 = 0x4 | 0x8 | 0x20 | 0x200;
/// `EXT4_FEATURE_INCOMPAT_*`: filetype, extents, 64bit, flex_bg.
pub const FEATURE_INCOMPAT: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `EXT4_FEATURE_RO_COMPAT_*`: sparse_super, large_file, huge_file, gdt_csum (uninit_bg), dir_nlink, extra_isize.
pub const FEATURE_RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

/// `EXT4_ROOT_INO`.
pub const ROOT_INO: u32 = 2;
/// `EXT4_JOURNAL_INO`.
pub const JOURNAL_INO: u32 = 8;
/// `EXT4_GOOD_OLD_FIRST_INO`: the first that is not reserved. mke2fs gives it to lost+found, and so do we.
pub const FIRST_INO: u32 = 11;

/// `EXT4_BG_INODE_UNINIT`: the inode bitmap is not there yet.
pub const BG_INODE_UNINIT: u16 = 0x1;
/// `EXT4_BG_BLOCK_UNINIT`: the block bitmap is not there yet.
pub const BG_BLOCK_UNINIT: u16 = 0x2;
/// `EXT4_BG_INODE_ZEROED`: the inode table is zero where it is not used.
pub const BG_INODE_ZEROED: u16 = 0x4;

/// `EXT4_EXTENTS_FL` in `i_flags`.
pub const EXTENTS_FL: u32 = 0x8_0000;
/// `EXT4_EXT_MAGIC`.
pub const EXT_MAGIC: u16 = 0xf30a;
/// Extents that fit in `i_block` behind the header.
pub const EXT_MAX: u16 = 4;

/// `JBD2_MAGIC_NUMBER`.
pub const JBD2_MAGIC_NUMBER: u32 = 0xc03b_3998;
/// `JBD2_SUPERBLOCK_V2`.
pub const JBD2_SUPERBLOCK_V2: u32 = 4;

/// `struct ext4_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SuperBlock {
    pub s_inodes_count: U32,
    pub s_blocks_count_lo: U32,
    pub s_r_blocks_count_lo: U32,
    pub s_free_blocks_count_lo: U32,
    pub s_free_inodes_count: U32,
    pub s_first_data_block: U32,
    pub s_log_block_size: U32,
    pub s_log_cluster_size: U32,
    pub s_blocks_per_group: U32,
    pub s_clusters_per_group: U32,
    pub s_inodes_per_group: U32,
    pub s_mtime: U32,
    pub s_wtime: U32,
    pub s_mnt_count: U16,
    pub s_max_mnt_count: U16,
    pub s_magic: U16,
    pub s_state: U16,
    pub s_errors: U16,
    pub s_minor_rev_level: U16,
    pub s_lastcheck: U32,
    pub s_checkinterval: U32,
    pub s_creator_os: U32,
    pub s_rev_level: U32,
    pub s_def_resuid: U16,
    pub s_def_resgid: U16,
    pub s_first_ino: U32,
    pub s_inode_size: U16,
    pub s_block_group_nr: U16,
    pub s_feature_compat: U32,
    pub s_feature_incompat: U32,
    pub s_feature_ro_compat: U32,
    pub s_uuid: [u8; 16],
    pub s_volume_name: [u8; 16],
    pub s_last_mounted: [u8; 64],
    pub s_algorithm_usage_bitmap: U32,
    pub s_prealloc_blocks: u8,
    pub s_prealloc_dir_blocks: u8,
    pub s_reserved_gdt_blocks: U16,
    pub s_journal_uuid: [u8; 16],
    pub s_journal_inum: U32,
    pub s_journal_dev: U32,
    pub s_last_orphan: U32,
    pub s_hash_seed: [u8; 16],
    pub s_def_hash_version: u8,
    pub s_jnl_backup_type: u8,
    pub s_desc_size: U16,
    pub s_default_mount_opts: U32,
    pub s_first_meta_bg: U32,
    pub s_mkfs_time: U32,
    /// Copies of the journal inode's `i_block`, `i_size_high` and `i_size_lo`.
    pub s_jnl_blocks: [u8; 60],
    pub s_jnl_size_high: U32,
    pub s_jnl_size_lo: U32,
    pub s_blocks_count_hi: U32,
    pub s_r_blocks_count_hi: U32,
    pub s_free_blocks_count_hi: U32,
    pub s_min_extra_isize: U16,
    pub s_want_extra_isize: U16,
    pub s_flags: U32,
    pub s_raid_stride: U16,
    pub s_mmp_update_interval: U16,
    pub s_mmp_block: U64,
    pub s_raid_stripe_width: U32,
    pub s_log_groups_per_flex: u8,
    pub s_checksum_type: u8,
    pub s_encryption_level: u8,
    pub s_reserved_pad: u8,
    pub s_kbytes_written: U64,
    /// Snapshots, errors, mount options and quota: nothing of it in a new file system.
    pub s_history: [u8; 200],
    pub s_overhead_clusters: U32,
    pub s_backup_bgs: [U32; 2],
    pub s_rest: [u8; 428],
}

/// `struct ext4_group_desc`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GroupDesc {
    pub bg_block_bitmap_lo: U32,
    pub bg_inode_bitmap_lo: U32,
    pub bg_inode_table_lo: U32,
    pub bg_free_blocks_count_lo: U16,
    pub bg_free_inodes_count_lo: U16,
    pub bg_used_dirs_count_lo: U16,
    pub bg_flags: U16,
    pub bg_exclude_bitmap_lo: U32,
    pub bg_block_bitmap_csum_lo: U16,
    pub bg_inode_bitmap_csum_lo: U16,
    pub bg_itable_unused_lo: U16,
    pub bg_checksum: U16,
    pub bg_block_bitmap_hi: U32,
    pub bg_inode_bitmap_hi: U32,
    pub bg_inode_table_hi: U32,
    /// The upper halves of counts that never exceed 65,535 here, and what is reserved.
    pub bg_rest: [u8; 20],
}

/// `struct ext4_inode` with `i_extra_isize` of 32, up to `s_inode_size`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Inode {
    pub i_mode: U16,
    pub i_uid: U16,
    pub i_size_lo: U32,
    pub i_atime: U32,
    pub i_ctime: U32,
    pub i_mtime: U32,
    pub i_dtime: U32,
    pub i_gid: U16,
    pub i_links_count: U16,
    pub i_blocks_lo: U32,
    pub i_flags: U32,
    pub osd1: U32,
    pub i_block: ExtentRoot,
    pub i_generation: U32,
    pub i_file_acl_lo: U32,
    pub i_size_high: U32,
    pub i_obso_faddr: U32,
    pub l_i_blocks_high: U16,
    pub l_i_file_acl_high: U16,
    pub l_i_uid_high: U16,
    pub l_i_gid_high: U16,
    pub l_i_checksum_lo: U16,
    pub l_i_reserved: U16,
    pub i_extra_isize: U16,
    pub i_checksum_hi: U16,
    pub i_ctime_extra: U32,
    pub i_mtime_extra: U32,
    pub i_atime_extra: U32,
    pub i_crtime: U32,
    pub i_crtime_extra: U32,
    pub i_version_hi: U32,
    pub i_projid: U32,
    /// Extended attributes that found room in the inode.
    pub i_xattrs: [u8; 96],
}

/// `i_block` with one extent: `struct ext4_extent_header`, `struct ext4_extent` and three that are empty.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentRoot {
    pub eh_magic: U16,
    pub eh_entries: U16,
    pub eh_max: U16,
    pub eh_depth: U16,
    pub eh_generation: U32,
    pub ee_block: U32,
    pub ee_len: U16,
    pub ee_start_hi: U16,
    pub ee_start_lo: U32,
    pub ee_rest: [u8; 36],
}

/// `struct ext4_dir_entry_2`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DirEntry {
    pub inode: U32,
    pub rec_len: U16,
    pub name_len: u8,
    pub file_type: u8,
}

/// The first fields of `journal_superblock_t`. Big-endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct JournalSuperBlock {
    pub h_magic: Be32,
    pub h_blocktype: Be32,
    pub h_sequence: Be32,
    pub s_blocksize: Be32,
    pub s_maxlen: Be32,
    pub s_first: Be32,
    pub s_sequence: Be32,
    pub s_start: Be32,
    pub s_errno: Be32,
    pub s_feature_compat: Be32,
    pub s_feature_incompat: Be32,
    pub s_feature_ro_compat: Be32,
    pub s_uuid: [u8; 16],
    pub s_nr_users: Be32,
}

const _: () = {
    assert!(size_of::<SuperBlock>() == 1024);
    assert!(std::mem::offset_of!(SuperBlock, s_uuid) == 0x68);
    assert!(std::mem::offset_of!(SuperBlock, s_jnl_blocks) == 0x10c);
    assert!(std::mem::offset_of!(SuperBlock, s_kbytes_written) == 0x178);
    assert!(std::mem::offset_of!(SuperBlock, s_overhead_clusters) == 0x248);
    assert!(size_of::<GroupDesc>() == 64);
    assert!(std::mem::offset_of!(GroupDesc, bg_checksum) == 30);
    assert!(size_of::<Inode>() == 256);
    assert!(std::mem::offset_of!(Inode, i_block) == 40);
    assert!(std::mem::offset_of!(Inode, l_i_uid_high) == 120);
    assert!(std::mem::offset_of!(Inode, i_extra_isize) == 128);
    assert!(std::mem::offset_of!(Inode, i_xattrs) == 128 + EXTRA_ISIZE as usize);
    assert!(size_of::<ExtentRoot>() == 60);
    assert!(size_of::<DirEntry>() == 8);
};
