//! The blocks of a scratch disk as they are after the journal's replay, which happens in memory only.
//!
//! In: an image file and which of its blocks the journal has newer. Out: bytes.
//! It must never know what is in a block, nor write one.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::error::DiskError;

use crate::ext4::spec::{BLOCK_SIZE, JBD2_MAGIC_NUMBER};

/// One block, for buffers.
pub(super) const BLOCK: usize = 4096;
/// The bytes of one block.
pub(super) type Block = [u8; BLOCK];

/// Where the journal has a newer version of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    /// The block of the disk, within the journal, that holds it.
    pub(super) at: u64,
    /// Its first four bytes are [`JBD2_MAGIC_NUMBER`] and were zeroed: see [`super::spec::JBD2_FLAG_ESCAPE`].
    pub(super) escaped: bool,
}

/// An image, read block by block.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: File,
    /// How many there are.
    pub(super) blocks: u64,
    /// By the number of the block that is replaced. Bounded by the journal's length.
    pub(super) logged: BTreeMap<u64, Logged>,
}

impl Disk {
    /// The bytes from `offset` in `block` on; they may reach into the blocks after it.
    pub(super) fn read(&self, block: u64, offset: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        let start = block.saturating_mul(BLOCK_SIZE).saturating_add(offset);
        let length = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        let end = start.saturating_add(length);
        if end > self.blocks * BLOCK_SIZE {
            return Err(DiskError::Block { block: end / BLOCK_SIZE });
        }
        self.read_raw(start, bytes)?;
        for (number, logged) in self.logged.range(start / BLOCK_SIZE..end.div_ceil(BLOCK_SIZE)) {
            let newer = self.newer(*logged)?;
            // What both have in common, as positions in the image.
            let from = start.max(number * BLOCK_SIZE);
            let to = end.min((number + 1) * BLOCK_SIZE);
            let [skip, at, count] = [from - start, from - number * BLOCK_SIZE, to - from].map(|position| {
                usize::try_from(position).expect("no more than the buffer's length, or a block's")
            });
            bytes[skip..skip + count].copy_from_slice(&newer[at..at + count]);
        }
        Ok(())
    }

    /// A whole block.
    pub(super) fn block(&self, block: u64) -> Result<Block, DiskError> {
        let mut bytes = [0; BLOCK];
        self.read(block, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the image has all of these blocks as they are.
    pub(super) fn is_plain(&self, block: u64, count: u64) -> bool {
        self.logged.range(block..block.saturating_add(count)).next().is_none()
    }

    fn newer(&self, logged: Logged) -> Result<Block, DiskError> {
        let mut bytes = [0; BLOCK];
        self.read_raw(logged.at * BLOCK_SIZE, &mut bytes)?;
        if logged.escaped {
            bytes[..4].copy_from_slice(&JBD2_MAGIC_NUMBER.to_be_bytes());
        }
        Ok(bytes)
    }

    fn read_raw(&self, start: u64, bytes: &mut [u8]) -> Result<(), DiskError> {
        let read = self.file.read_exact_at(bytes, start);
        read.map_err(|source| DiskError::Read { block: start / BLOCK_SIZE, source })
    }
}

/// The structure at the start of `bytes`, if they are long enough.
pub(super) fn parse<T: zerocopy::FromBytes + zerocopy::Unaligned>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Each block is filled with its number.
    fn disk() -> Disk {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..8 {
            file.write_all(&[number; BLOCK]).unwrap();
        }
        Disk { file, blocks: 8, logged: BTreeMap::new() }
    }

    #[test]
    fn newer_blocks_are_seen_in_part_and_whole() {
        let mut disk = disk();
        disk.logged.insert(2, Logged { at: 7, escaped: false });
        disk.logged.insert(4, Logged { at: 6, escaped: true });
        let mut bytes = vec![0; 3 * BLOCK];
        disk.read(2, 4000, &mut bytes).unwrap();
        assert!(bytes[..96].iter().all(|byte| *byte == 7));
        assert!(bytes[96..96 + BLOCK].iter().all(|byte| *byte == 3));
        assert_eq!(bytes[96 + BLOCK..][..4], JBD2_MAGIC_NUMBER.to_be_bytes());
        assert!(bytes[100 + BLOCK..96 + 2 * BLOCK].iter().all(|byte| *byte == 6));
        assert!(bytes[96 + 2 * BLOCK..].iter().all(|byte| *byte == 5));
        assert!(disk.is_plain(0, 2) && disk.is_plain(5, 3) && !disk.is_plain(0, 3) && !disk.is_plain(4, 1));
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let disk = disk();
        assert!(disk.block(7).is_ok());
        for (block, offset) in [(8, 0), (7, 1), (u64::MAX, 0), (0, u64::MAX)] {
            let error = disk.read(block, offset, &mut [0; BLOCK]).unwrap_err();
            assert!(matches!(error, DiskError::Block { .. }), "{error}");
        }
    }
}
