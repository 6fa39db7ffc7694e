//! What only a file system in use has on the disk: `fs/ext4/ext4.h`, `ext4_extents.h`, `xattr.h`, `acl.h` and
//! `include/linux/jbd2.h` of Linux 6.12. Field names are the kernel's. Little-endian, but for the journal.
//!
//! In and out: bytes. It must never know what the fields are filled with.

use zerocopy::big_endian::{U16 as Be16, U32 as Be32};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// `EXT4_FEATURE_INCOMPAT_RECOVER`: mounted, or not unmounted: the journal counts.
pub const INCOMPAT_RECOVER: u32 = 0x4;
/// `EXT4_ERROR_FS` in `s_state`.
pub const ERROR_FS: u16 = 2;

/// What `i_flags` may say: `EXT4_SYNC_FL`, `IMMUTABLE`, `APPEND`, `NODUMP`, `NOATIME`, `INDEX`, `JOURNAL_DATA`, `NOTAIL`,
/// `DIRSYNC`, `TOPDIR`, `HUGE_FILE`, `EXTENTS`, `EOFBLOCKS`, `PROJINHERIT`. Not: compression, encryption, verity, a value
/// inode, inline data, casefolding: those change where the content is or what it means.
pub const FLAGS_KNOWN: u32 = 0x8
    | 0x10
    | 0x20
    | 0x40
    | 0x80
    | 0x1000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000
    | 0x4_0000
    | 0x8_0000
    | 0x40_0000
    | 0x2000_0000;

/// `EXT_INIT_MAX_LEN`: an `ee_len` above it means so many blocks more than it, reserved and not written.
pub const EXT_INIT_MAX_LEN: u16 = 32768;
/// `EXT4_MAX_EXTENT_DEPTH`.
pub const MAX_EXTENT_DEPTH: u16 = 5;

/// `struct ext4_extent_header`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentHeader {
    pub eh_magic: U16,
    pub eh_entries: U16,
    pub eh_max: U16,
    pub eh_depth: U16,
    pub eh_generation: U32,
}

/// `struct ext4_extent`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentLeaf {
    pub ee_block: U32,
    pub ee_len: U16,
    pub ee_start_hi: U16,
    pub ee_start_lo: U32,
}

/// `struct ext4_extent_idx`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ExtentIndex {
    pub ei_block: U32,
    pub ei_leaf_lo: U32,
    pub ei_leaf_hi: U16,
    pub ei_unused: U16,
}

/// `EXT4_XATTR_MAGIC`.
pub const XATTR_MAGIC: u32 = 0xea02_0000;

/// `struct ext4_xattr_header`, at the start of a block of attributes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrHeader {
    pub h_magic: U32,
    pub h_refcount: U32,
    pub h_blocks: U32,
    pub h_hash: U32,
    pub h_checksum: U32,
    pub h_reserved: [U32; 3],
}

/// `struct ext4_xattr_entry`; the name follows, and bytes up to a multiple of 4.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    pub e_name_len: u8,
    pub e_name_index: u8,
    pub e_value_offs: U16,
    pub e_value_inum: U32,
    pub e_value_size: U32,
    pub e_hash: U32,
}

/// `EXT4_ACL_VERSION`.
pub const ACL_VERSION: u32 = 1;

/// `JBD2_DESCRIPTOR_BLOCK`.
pub const JBD2_DESCRIPTOR_BLOCK: u32 = 1;
/// `JBD2_COMMIT_BLOCK`.
pub const JBD2_COMMIT_BLOCK: u32 = 2;
/// `JBD2_REVOKE_BLOCK`.
pub const JBD2_REVOKE_BLOCK: u32 = 5;
/// `JBD2_FEATURE_INCOMPAT_REVOKE`.
pub const JBD2_INCOMPAT_REVOKE: u32 = 0x1;
/// `JBD2_FEATURE_INCOMPAT_64BIT`.
pub const JBD2_INCOMPAT_64BIT: u32 = 0x2;
/// `JBD2_FLAG_ESCAPE`: the block began with the journal's magic number, which was zeroed.
pub const JBD2_FLAG_ESCAPE: u16 = 1;
/// `JBD2_FLAG_SAME_UUID`: no UUID follows the tag.
pub const JBD2_FLAG_SAME_UUID: u16 = 2;
/// `JBD2_FLAG_LAST_TAG`.
pub const JBD2_FLAG_LAST_TAG: u16 = 8;

/// `journal_header_t`.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct JournalHeader {
    pub h_magic: Be32,
    pub h_blocktype: Be32,
    pub h_sequence: Be32,
}

/// `journal_block_tag_t` without its last field, `t_blocknr_high`, which is there with `64bit` only.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct JournalTag {
    pub t_blocknr: Be32,
    pub t_checksum: Be16,
    pub t_flags: Be16,
}

const _: () = {
    assert!(size_of::<ExtentHeader>() == 12);
    assert!(size_of::<ExtentLeaf>() == 12);
    assert!(size_of::<ExtentIndex>() == 12);
    assert!(size_of::<XattrHeader>() == 32);
    assert!(size_of::<XattrEntry>() == 16);
    assert!(size_of::<JournalHeader>() == 12);
    assert!(size_of::<JournalTag>() == 8);
};
