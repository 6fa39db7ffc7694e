//! The structures on the disk, as `fs/erofs/erofs_fs.h` of Linux 6.12 has them. All of it is little-endian.
//!
//! In and out: bytes. It must never know what the fields are filled with.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The block size this program writes: `1 << LOG_BLOCK_SIZE`. It is the page size of x86_64, and of aarch64 as we build it.
pub const BLOCK_SIZE: usize = 1 << LOG_BLOCK_SIZE;
/// `blkszbits` of the super block.
pub const LOG_BLOCK_SIZE: u8 = 12;
/// `EROFS_SUPER_OFFSET`: in bytes from the image's start.
pub const SUPER_OFFSET: usize = 1024;
/// `EROFS_SUPER_MAGIC_V1`.
pub const SUPER_MAGIC_V1: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the first block has a checksum.
pub const FEATURE_COMPAT_SB_CHKSUM: u32 = 0x1;
/// `EROFS_FEATURE_COMPAT_MTIME`: the inodes' time is that of the last change of content.
pub const FEATURE_COMPAT_MTIME: u32 = 0x2;
/// `EROFS_ISLOTBITS`: an inode's number is its offset in units of 32 bytes.
pub const INODE_SLOT: usize = 32;
/// `EROFS_INODE_LAYOUT_COMPACT` and `_EXTENDED`, bit 0 of `i_format`.
pub const LAYOUT_COMPACT: u16 = 0;
/// See [`LAYOUT_COMPACT`].
pub const LAYOUT_EXTENDED: u16 = 1;
/// `EROFS_INODE_FLAT_PLAIN`: the data is in whole blocks from `i_u`.
pub const FLAT_PLAIN: u16 = 0;
/// `EROFS_INODE_FLAT_INLINE`: the last part of the data, here all of it, follows the inode and its attributes.
pub const FLAT_INLINE: u16 = 2;
/// `EROFS_I_DATALAYOUT_BIT`: where the above is in `i_format`.
pub const DATALAYOUT_SHIFT: u16 = 1;
/// `EROFS_NULL_ADDR`: no block.
pub const NULL_ADDR: u32 = u32::MAX;

/// `struct erofs_super_block`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SuperBlock {
    pub magic: U32,
    pub checksum: U32,
    pub feature_compat: U32,
    pub blkszbits: u8,
    pub sb_extslots: u8,
    pub root_nid: U16,
    pub inos: U64,
    pub build_time: U64,
    pub build_time_nsec: U32,
    pub blocks: U32,
    pub meta_blkaddr: U32,
    pub xattr_blkaddr: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: U32,
    pub available_compr_algs: U16,
    pub extra_devices: U16,
    pub devt_slotoff: U16,
    pub dirblkbits: u8,
    pub xattr_prefix_count: u8,
    pub xattr_prefix_start: U32,
    pub packed_nid: U64,
    pub xattr_filter_reserved: u8,
    pub reserved2: [u8; 23],
}

/// `struct erofs_inode_compact`: its time is the super block's `build_time`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InodeCompact {
    pub i_format: U16,
    pub i_xattr_icount: U16,
    pub i_mode: U16,
    pub i_nlink: U16,
    pub i_size: U32,
    pub i_reserved: U32,
    pub i_u: U32,
    pub i_ino: U32,
    pub i_uid: U16,
    pub i_gid: U16,
    pub i_reserved2: U32,
}

/// `struct erofs_inode_extended`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InodeExtended {
    pub i_format: U16,
    pub i_xattr_icount: U16,
    pub i_mode: U16,
    pub i_reserved: U16,
    pub i_size: U64,
    pub i_u: U32,
    pub i_ino: U32,
    pub i_uid: U32,
    pub i_gid: U32,
    pub i_mtime: U64,
    pub i_mtime_nsec: U32,
    pub i_nlink: U32,
    pub i_reserved2: [u8; 16],
}

/// `struct erofs_dirent`: at the start of a directory's block; the names follow the last of them.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Dirent {
    pub nid: U64,
    pub nameoff: U16,
    pub file_type: u8,
    pub reserved: u8,
}

/// `struct erofs_xattr_ibody_header`: once after an inode that has attributes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrIbodyHeader {
    pub h_name_filter: U32,
    pub h_shared_count: u8,
    pub h_reserved2: [u8; 7],
}

/// `struct erofs_xattr_entry`: the name without its prefix and the value follow, up to a multiple of four bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    pub e_name_len: u8,
    pub e_name_index: u8,
    pub e_value_size: U16,
}

/// `e_name_index` of each prefix (`EROFS_XATTR_INDEX_*`). A name outside of these cannot be stored, and no guest could read it.
pub const XATTR_PREFIXES: [(u8, &[u8]); 6] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
];

const _: () = {
    assert!(size_of::<SuperBlock>() == 128);
    assert!(size_of::<InodeCompact>() == INODE_SLOT);
    assert!(size_of::<InodeExtended>() == 2 * INODE_SLOT);
    assert!(size_of::<Dirent>() == 12);
    assert!(size_of::<XattrIbodyHeader>() == 12);
    assert!(size_of::<XattrEntry>() == 4);
};
