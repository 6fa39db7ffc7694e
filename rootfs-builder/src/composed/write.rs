//! Writes a composition.
//!
//! In: a tree, its layout and the directories it was read from. Out: the file's bytes.
//! It must never open a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U16, U32, U64};

use super::spec::{Header, LayerRecord, MAGIC, NO_CTIME, RECORDS_PER_BLOCK, Record, VERSION};
use crate::checksum::{SEED, crc32c};
use crate::erofs::{BLOCK_SIZE, Layout};
use crate::tree::{Identity, Time, Tree};

/// A layer's directory, as it was when it was read.
#[derive(Clone, Copy, Debug)]
pub struct LayerRoot<'a> {
    /// Absolute, without symbolic links.
    pub path: &'a Path,
    /// Of the directory itself.
    pub identity: Identity,
}

/// Writes the composition of `tree`, which was read from `layers` and laid out as `layout`, to `out`, an empty file.
///
/// With `links_change`, the ctime of files with several names is not recorded: one of the names may be removed while the
/// disk is in use (in a container's own layer, when what it wrote comes back), which changes the ctime under the others.
///
/// # Errors
/// What the kernel said, and `InvalidInput` where the tree holds a layer or a path that does not fit the format.
pub fn write(
    out: &File,
    tree: &Tree,
    layout: &Layout,
    layers: &[LayerRoot<'_>],
    links_change: bool,
) -> io::Result<()> {
    let mut strings = Vec::new();
    let mut records = Vec::with_capacity(layout.extents.len());
    let mut paths = Paths { tree, directory: None, prefix: Vec::new() };
    for extent in &layout.extents {
        let inode = &tree.node(extent.inode).inode;
        let identity = inode.identity;
        if usize::from(identity.layer) >= layers.len() {
            return Err(invalid("a layer that is not among those given"));
        }
        let start = strings.len();
        paths.append(extent.inode, &mut strings);
        let Time { seconds, nanoseconds } = identity.ctime;
        records.push(Record {
            first_block: U32::new(block(extent.image_offset)?),
            layer: U16::new(identity.layer),
            path_length: U16::new(
                u16::try_from(strings.len() - start)
                    .map_err(|_| invalid("a path of more than 65535 bytes"))?,
            ),
            length: U64::new(extent.length),
            path_offset: U64::new(wide(start)),
            inode: U64::new(identity.inode),
            mtime_seconds: I64::new(inode.mtime.seconds),
            ctime_seconds: I64::new(seconds),
            mtime_nanoseconds: U32::new(inode.mtime.nanoseconds),
            ctime_nanoseconds: U32::new(if links_change && identity.linked { NO_CTIME } else { nanoseconds }),
            device_major: U32::new(identity.device.0),
            device_minor: U32::new(identity.device.1),
        });
    }
    let mut directories = Vec::with_capacity(layers.len());
    for layer in layers {
        let path = layer.path.as_os_str().as_bytes();
        directories.push(LayerRecord {
            inode: U64::new(layer.identity.inode),
            device_major: U32::new(layer.identity.device.0),
            device_minor: U32::new(layer.identity.device.1),
            path_offset: U64::new(wide(strings.len())),
            path_length: U32::new(
                u32::try_from(path.len()).map_err(|_| invalid("the path of a layer is too long"))?,
            ),
            reserved: U32::ZERO,
        });
        strings.extend_from_slice(path);
    }

    let mut header = Header {
        magic: MAGIC,
        version: U32::new(VERSION),
        checksum: U32::ZERO,
        blocks: U32::new(layout.blocks),
        metadata_blocks: U32::new(block(wide(layout.metadata.len()))?),
        files: U32::new(u32::try_from(records.len()).map_err(|_| invalid("too many files"))?),
        layers: U32::new(u32::try_from(layers.len()).map_err(|_| invalid("too many layers"))?),
        strings: U64::new(wide(strings.len())),
    };
    header.checksum = U32::new(crc32c(SEED, header.as_bytes()));

    let mut out = BufWriter::with_capacity(1 << 16, out);
    let mut first = [0; BLOCK_SIZE];
    first[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    out.write_all(&first)?;
    out.write_all(&layout.metadata)?;
    out.write_all(records.as_bytes())?;
    let filled = records.as_bytes().len();
    out.write_all(&vec![0; filled.next_multiple_of(BLOCK_SIZE) - filled])?;
    for records in records.chunks(RECORDS_PER_BLOCK) {
        out.write_all(records[0].first_block.as_bytes())?;
    }
    out.write_all(directories.as_bytes())?;
    out.write_all(&strings)?;
    out.flush()
}

/// Paths one after another, mostly of files that share a directory.
struct Paths<'a> {
    tree: &'a Tree,
    directory: Option<crate::tree::InodeId>,
    /// The directory's path with a slash, or nothing for the root.
    prefix: Vec<u8>,
}

impl Paths<'_> {
    fn append(&mut self, id: crate::tree::InodeId, out: &mut Vec<u8>) {
        let parent = self.tree.parent(id);
        if self.directory != Some(parent) {
            self.prefix = self.tree.path(parent).into_os_string().into_encoded_bytes();
            if !self.prefix.is_empty() {
                self.prefix.push(b'/');
            }
            self.directory = Some(parent);
        }
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(self.tree.name(id));
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn block(offset: u64) -> io::Result<u32> {
    u32::try_from(offset / BLOCK_SIZE as u64).map_err(|_| invalid("more than 16 TiB"))
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("usize has at most 64 bits")
}
