//! An inode's 32 or 64 bytes.
//!
//! In: a node of the tree and what the layout has found for it. Out: bytes; and whether the short form can hold it.
//! It must never know where the inode itself is.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::spec::{
    DATALAYOUT_SHIFT, FLAT_INLINE, FLAT_PLAIN, InodeCompact, InodeExtended, LAYOUT_COMPACT, LAYOUT_EXTENDED,
};
use crate::tree::{Device, Inode, InodeId, Kind, Node, Time};

/// `S_IFMT` of stat(2), one for each kind.
const S_IFREG: u16 = 0o100_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFLNK: u16 = 0o120_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFSOCK: u16 = 0o140_000;

/// What an inode says besides the file's own metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The long form.
    pub(super) extended: bool,
    /// The content follows the attributes.
    pub(super) inline: bool,
    /// `i_xattr_icount`.
    pub(super) xattr_icount: u16,
    /// Bytes of data or content.
    pub(super) size: u64,
    /// The first block of data or content that is not inline.
    pub(super) block: u32,
}

/// Whether the short form can hold this inode with `size` bytes, in an image whose short inodes all have the time `epoch`.
pub(super) fn fits_compact(node: &Node, size: u64, epoch: Time) -> bool {
    let inode = &node.inode;
    inode.mtime == epoch
        && u32::try_from(size).is_ok()
        && u16::try_from(node.links).is_ok()
        && u16::try_from(inode.uid).is_ok()
        && u16::try_from(inode.gid).is_ok()
}

/// Writes the inode at the start of `out`.
pub(super) fn encode(id: InodeId, node: &Node, place: Place, out: &mut [u8]) {
    const FITS: &str = "fits_compact said so";
    let inode = &node.inode;
    let version = if place.extended { LAYOUT_EXTENDED } else { LAYOUT_COMPACT };
    let layout = if place.inline { FLAT_INLINE } else { FLAT_PLAIN };
    let i_format = U16::new(version | layout << DATALAYOUT_SHIFT);
    let i_xattr_icount = U16::new(place.xattr_icount);
    let i_mode = U16::new(mode(inode));
    let i_u = U32::new(match inode.kind {
        Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
            device_number(device).expect("the layout has refused it otherwise")
        }
        Kind::Fifo | Kind::Socket => 0,
        _ => place.block,
    });
    let i_ino = U32::new(u32::try_from(id.index() + 1).expect("a tree has fewer names than that"));
    if place.extended {
        let extended = InodeExtended {
            i_format,
            i_xattr_icount,
            i_mode,
            i_reserved: U16::ZERO,
            i_size: U64::new(place.size),
            i_u,
            i_ino,
            i_uid: U32::new(inode.uid),
            i_gid: U32::new(inode.gid),
            i_mtime: U64::new(inode.mtime.seconds.cast_unsigned()),
            i_mtime_nsec: U32::new(inode.mtime.nanoseconds),
            i_nlink: U32::new(node.links),
            i_reserved2: [0; 16],
        };
        out[..size_of::<InodeExtended>()].copy_from_slice(extended.as_bytes());
    } else {
        let compact = InodeCompact {
            i_format,
            i_xattr_icount,
            i_mode,
            i_nlink: U16::new(u16::try_from(node.links).expect(FITS)),
            i_size: U32::new(u32::try_from(place.size).expect(FITS)),
            i_reserved: U32::ZERO,
            i_u,
            i_ino,
            i_uid: U16::new(u16::try_from(inode.uid).expect(FITS)),
            i_gid: U16::new(u16::try_from(inode.gid).expect(FITS)),
            i_reserved2: U32::ZERO,
        };
        out[..size_of::<InodeCompact>()].copy_from_slice(compact.as_bytes());
    }
}

/// Bytes of an inode.
pub(super) fn size(extended: bool) -> usize {
    if extended { size_of::<InodeExtended>() } else { size_of::<InodeCompact>() }
}

fn mode(inode: &Inode) -> u16 {
    let format = match inode.kind {
        Kind::Regular(_) => S_IFREG,
        Kind::Directory(_) => S_IFDIR,
        Kind::CharacterDevice(_) => S_IFCHR,
        Kind::BlockDevice(_) => S_IFBLK,
        Kind::Fifo => S_IFIFO,
        Kind::Socket => S_IFSOCK,
        Kind::Symlink(_) => S_IFLNK,
    };
    format | (inode.permissions & 0o7777)
}

/// `EROFS_FT_*`, the `file_type` of a directory's entry (`include/linux/fs_types.h`, `FT_*`).
pub(super) fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::Regular(_) => 1,
        Kind::Directory(_) => 2,
        Kind::CharacterDevice(_) => 3,
        Kind::BlockDevice(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// `new_encode_dev()` of `include/linux/kdev_t.h`: 12 bits of major, 20 bits of minor.
pub(super) fn device_number(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}
