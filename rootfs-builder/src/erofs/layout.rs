//! Where everything goes: the first step of an image, which reads no file's data.
//!
//! In: a tree. Out: the metadata as bytes, and a table of extents that says which file's data belongs where behind it.
//!
//! ```text
//! block 0            super block, then the inodes in the tree's order, each with its attributes and its inline content
//! following blocks   content that is not inline: large directories, the longest symbolic links
//! from there on      the data of regular files, each from a block's start
//! ```
//!
//! It must never open a file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::directory::{self, Entry};
use super::inode::{self, Place};
use super::spec::{
    BLOCK_SIZE, FEATURE_COMPAT_MTIME, FEATURE_COMPAT_SB_CHKSUM, INODE_SLOT, LOG_BLOCK_SIZE, NULL_ADDR,
    SUPER_MAGIC_V1, SUPER_OFFSET, SuperBlock,
};
use super::xattr::{self, XattrError};
use crate::checksum::{SEED, crc32c};
use crate::tree::{Child, Device, InodeId, Kind, Node, Time, Tree};

/// The super block's `checksum` field, in bytes from its start.
const CHECKSUM_OFFSET: usize = 4;

/// A tree that has no place in this format.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A single attribute.
    #[error("{path:?} has an extended attribute of more than 65535 bytes, which the image cannot hold")]
    XattrValue {
        /// Relative to the root.
        path: PathBuf,
    },
    /// All of a file's attributes.
    #[error("{path:?} has more than 256 KiB of extended attributes, which the image cannot hold")]
    XattrTotal {
        /// Relative to the root.
        path: PathBuf,
    },
    /// A device that Linux has no number for.
    #[error("{path:?} is a device with the number {}:{}, which Linux cannot have", device.major, device.minor)]
    Device {
        /// Relative to the root.
        path: PathBuf,
        /// Its number; 4095:1048575 is the last one.
        device: Device,
    },
    /// More blocks than their addresses reach.
    #[error("The root holds more than 16 TiB, which an image cannot: look for huge sparse files")]
    Size,
}

/// The data of one regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// In bytes from the image's start; a multiple of [`BLOCK_SIZE`].
    pub image_offset: u64,
    /// In bytes, never zero. What follows up to the block's end is zero.
    pub length: u64,
    /// Whose data it is, from its start; [`Tree::path`] says where.
    pub inode: InodeId,
}

/// An image without its data.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The image's first bytes, whole blocks.
    pub metadata: Vec<u8>,
    /// In order of their place in the image, without overlap.
    pub extents: Vec<Extent>,
    /// The size of the image in blocks.
    pub blocks: u32,
}

impl Layout {
    /// Lays out `tree`. The same tree gives the same layout.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn plan(tree: &Tree) -> Result<Self, LayoutError> {
        let epoch = commonest_time(tree);
        let mut xattrs = Vec::new();
        let mut records = Vec::with_capacity(tree.inodes());
        let mut cursor = SUPER_OFFSET + size_of::<SuperBlock>();
        for (id, node) in tree.nodes() {
            let mut record = Record::measure(tree, id, node, epoch, &mut xattrs)?;
            record.offset = place(cursor, record.size());
            cursor = (record.offset + record.size()).next_multiple_of(INODE_SLOT);
            records.push(record);
        }

        let mut blocks = cursor.div_ceil(BLOCK_SIZE);
        for record in records.iter_mut().filter(|record| !record.place.inline && record.content > 0) {
            record.place.block = block_address(blocks)?;
            blocks += record.content.div_ceil(BLOCK_SIZE);
        }
        let data = block_address(blocks)?;
        let (extents, blocks) = place_data(tree, &mut records, data)?;

        let mut metadata = vec![0; bytes(data)];
        for ((id, _), record) in tree.nodes().zip(&records) {
            record.write(tree, id, &records, &xattrs, &mut metadata);
        }
        write_super_block(tree, epoch, blocks, &records[InodeId::ROOT.index()], &mut metadata);
        Ok(Self { metadata, extents, blocks })
    }

    /// The size of the image in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.blocks) << LOG_BLOCK_SIZE
    }
}

/// An inode and what stands right behind it.
struct Record {
    /// In bytes from the image's start; a multiple of [`INODE_SLOT`].
    offset: usize,
    /// Where its attributes are in the buffer of all of them.
    xattrs: Range<usize>,
    /// Bytes of a directory or a symbolic link.
    content: usize,
    /// What the inode says of all this.
    place: Place,
}

impl Record {
    fn measure(
        tree: &Tree,
        id: InodeId,
        node: &Node,
        epoch: Time,
        xattrs: &mut Vec<u8>,
    ) -> Result<Self, LayoutError> {
        let start = xattrs.len();
        xattr::encode(&node.inode.xattrs, xattrs).map_err(|error| match error {
            XattrError::Value => LayoutError::XattrValue { path: tree.path(id) },
            XattrError::Total => LayoutError::XattrTotal { path: tree.path(id) },
        })?;
        let xattrs = start..xattrs.len();
        let content = match &node.inode.kind {
            Kind::Directory(children) => directory::size(listing(tree, id, children).map(|(name, _)| name)),
            Kind::Symlink(target) => target.len(),
            Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
                match inode::device_number(*device) {
                    Some(_) => 0,
                    None => return Err(LayoutError::Device { path: tree.path(id), device: *device }),
                }
            }
            Kind::Regular(_) | Kind::Fifo | Kind::Socket => 0,
        };
        let size = if let Kind::Regular(size) = node.inode.kind { size } else { wide(content) };
        let extended = !inode::fits_compact(node, size, epoch);
        let inline = content > 0 && inode::size(extended) + xattrs.len() + content <= BLOCK_SIZE;
        let xattr_icount = xattr::icount(xattrs.len()).expect("encode has checked it");
        let place = Place { extended, inline, xattr_icount, size, block: NULL_ADDR };
        Ok(Self { offset: 0, xattrs, content, place })
    }

    /// Bytes from its offset on.
    fn size(&self) -> usize {
        self.content_offset() + if self.place.inline { self.content } else { 0 }
    }

    /// Bytes from its offset to the inline content.
    fn content_offset(&self) -> usize {
        inode::size(self.place.extended) + self.xattrs.len()
    }

    fn nid(&self) -> u64 {
        wide(self.offset / INODE_SLOT)
    }

    /// Where its content goes in the metadata.
    fn content(&self) -> Range<usize> {
        let start =
            if self.place.inline { self.offset + self.content_offset() } else { bytes(self.place.block) };
        start..start + self.content
    }

    /// Writes the inode, its attributes and its content into the image's first bytes.
    fn write(&self, tree: &Tree, id: InodeId, records: &[Self], xattrs: &[u8], metadata: &mut [u8]) {
        let node = tree.node(id);
        let behind = self.offset + inode::size(self.place.extended);
        inode::encode(id, node, self.place, &mut metadata[self.offset..behind]);
        metadata[behind..behind + self.xattrs.len()].copy_from_slice(&xattrs[self.xattrs.clone()]);
        match &node.inode.kind {
            Kind::Directory(children) => {
                let entry = |(name, inode): (_, InodeId)| Entry {
                    name,
                    nid: records[inode.index()].nid(),
                    file_type: inode::file_type(&tree.node(inode).inode.kind),
                };
                let entries: Vec<Entry<'_>> = listing(tree, id, children).map(entry).collect();
                directory::encode(&entries, &mut metadata[self.content()]);
            }
            Kind::Symlink(target) => metadata[self.content()].copy_from_slice(target),
            _ => {}
        }
    }
}

/// The first place from `cursor` on where a record may stand. The kernel wants inline content within one block; that the
/// inode is in the same block too costs little and saves it a read. What is longer than a block starts with one.
fn place(cursor: usize, size: usize) -> usize {
    let in_block = cursor % BLOCK_SIZE;
    if in_block == 0 || in_block + size <= BLOCK_SIZE { cursor } else { cursor.next_multiple_of(BLOCK_SIZE) }
}

/// Gives every regular file its blocks, from `block` on. Returns the extents and the first block behind them.
fn place_data(
    tree: &Tree,
    records: &mut [Record],
    mut block: u32,
) -> Result<(Vec<Extent>, u32), LayoutError> {
    let mut extents = Vec::new();
    for ((id, node), record) in tree.nodes().zip(records) {
        let Kind::Regular(length @ 1..) = node.inode.kind else { continue };
        record.place.block = block;
        extents.push(Extent { image_offset: u64::from(block) << LOG_BLOCK_SIZE, length, inode: id });
        let count = u32::try_from(length.div_ceil(wide(BLOCK_SIZE))).map_err(|_| LayoutError::Size)?;
        block = block.checked_add(count).ok_or(LayoutError::Size)?;
    }
    Ok((extents, block))
}

/// A directory's names with `.` and `..`, sorted by their bytes: the kernel looks for a name by halving.
fn listing<'a>(
    tree: &Tree,
    id: InodeId,
    children: &'a [Child],
) -> impl Iterator<Item = (&'a [u8], InodeId)> + use<'a> {
    let own = children.partition_point(|child| &*child.name < b".".as_slice());
    let parent = children.partition_point(|child| &*child.name < b"..".as_slice());
    let names = |children: &'a [Child]| children.iter().map(|child| (&*child.name, child.inode));
    names(&children[..own])
        .chain([(b".".as_slice(), id)])
        .chain(names(&children[own..parent]))
        .chain([(b"..".as_slice(), tree.parent(id))])
        .chain(names(&children[parent..]))
}

/// The time that most inodes have: those can be short.
fn commonest_time(tree: &Tree) -> Time {
    let mut counts: HashMap<Time, usize> = HashMap::new();
    for (_, node) in tree.nodes() {
        *counts.entry(node.inode.mtime).or_default() += 1;
    }
    let commonest = counts.into_iter().max_by_key(|(time, count)| (*count, *time));
    commonest.map(|(time, _)| time).unwrap_or_default()
}

/// Writes the super block; last, because its checksum covers all of the first block.
fn write_super_block(tree: &Tree, epoch: Time, blocks: u32, root: &Record, metadata: &mut [u8]) {
    let super_block = SuperBlock {
        magic: U32::new(SUPER_MAGIC_V1),
        checksum: U32::ZERO,
        feature_compat: U32::new(FEATURE_COMPAT_SB_CHKSUM | FEATURE_COMPAT_MTIME),
        blkszbits: LOG_BLOCK_SIZE,
        sb_extslots: 0,
        root_nid: U16::new(u16::try_from(root.nid()).expect("the root comes first")),
        inos: U64::new(wide(tree.inodes())),
        build_time: U64::new(epoch.seconds.cast_unsigned()),
        build_time_nsec: U32::new(epoch.nanoseconds),
        blocks: U32::new(blocks),
        meta_blkaddr: U32::ZERO,
        xattr_blkaddr: U32::ZERO,
        uuid: [0; 16],
        volume_name: [0; 16],
        feature_incompat: U32::ZERO,
        available_compr_algs: U16::ZERO,
        extra_devices: U16::ZERO,
        devt_slotoff: U16::ZERO,
        dirblkbits: 0,
        xattr_prefix_count: 0,
        xattr_prefix_start: U32::ZERO,
        packed_nid: U64::ZERO,
        xattr_filter_reserved: 0,
        reserved2: [0; 23],
    };
    metadata[SUPER_OFFSET..SUPER_OFFSET + size_of::<SuperBlock>()].copy_from_slice(super_block.as_bytes());
    let checksum = crc32c(SEED, &metadata[SUPER_OFFSET..BLOCK_SIZE]);
    let field = SUPER_OFFSET + CHECKSUM_OFFSET;
    metadata[field..field + size_of::<u32>()].copy_from_slice(&checksum.to_le_bytes());
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("usize has at most 64 bits")
}

fn block_address(block: usize) -> Result<u32, LayoutError> {
    u32::try_from(block).map_err(|_| LayoutError::Size)
}

fn bytes(block: u32) -> usize {
    usize::try_from(block).expect("usize has at least 32 bits") * BLOCK_SIZE
}
