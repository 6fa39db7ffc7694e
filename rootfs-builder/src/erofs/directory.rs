//! A directory's content: its names, sorted, in blocks that each begin with fixed-size entries and end with the names.
//!
//! In: names, each with an inode's number and type. Out: how many bytes that takes, and the bytes.
//! It must never know where the inodes or the blocks are.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::spec::{BLOCK_SIZE, Dirent};

/// A name with what it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// What the entry of `name` takes in a block.
fn space(name: &[u8]) -> usize {
    size_of::<Dirent>() + name.len()
}

/// Bytes of a directory with these names in this order: full blocks and what the last one needs.
pub(super) fn size<'a>(names: impl Iterator<Item = &'a [u8]>) -> usize {
    let (mut full, mut used) = (0, 0);
    for name in names {
        if used + space(name) > BLOCK_SIZE {
            (full, used) = (full + BLOCK_SIZE, 0);
        }
        used += space(name);
    }
    full + used
}

/// Writes the directory into `out`, which is zero and of exactly [`size`] bytes.
pub(super) fn encode(entries: &[Entry<'_>], out: &mut [u8]) {
    let mut rest = entries;
    for block in out.chunks_mut(BLOCK_SIZE) {
        let mut used = 0;
        let fits = |entry: &&Entry<'_>| {
            used += space(entry.name);
            used <= BLOCK_SIZE
        };
        let count = rest.iter().take_while(fits).count();
        let (here, later) = rest.split_at(count);
        let mut offset = count * size_of::<Dirent>();
        for (index, entry) in here.iter().enumerate() {
            let nameoff = u16::try_from(offset).expect("an offset in a block of 4096 bytes");
            let dirent = Dirent {
                nid: U64::new(entry.nid),
                nameoff: U16::new(nameoff),
                file_type: entry.file_type,
                reserved: 0,
            };
            let position = index * size_of::<Dirent>();
            block[position..position + size_of::<Dirent>()].copy_from_slice(dirent.as_bytes());
            block[offset..offset + entry.name.len()].copy_from_slice(entry.name);
            offset += entry.name.len();
        }
        rest = later;
    }
}
