//! The records of a composition: found by halving, read a block at a time, with a few blocks kept.
//!
//! In: an image block. Out: the last record that begins there or before, and where the next one begins.
//! It must never trust a record: what it says is checked where it is used.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::read::CompositionError;
use super::spec::{Places, RECORDS_PER_BLOCK, Record};
use crate::erofs::BLOCK_SIZE;

/// Blocks of records that are kept: 256 KiB at most, which 4,096 files share.
const KEPT: usize = 64;

/// A block of records.
type Block = [Record; RECORDS_PER_BLOCK];
/// A block that was read, with its number.
type Kept = Option<(usize, Arc<Block>)>;

/// All records of a composition.
#[derive(Debug)]
pub(super) struct Table {
    places: Places,
    files: u32,
    /// The first image block of each block of records: strictly rising.
    index: Vec<u32>,
    /// Block `number` can be in the place `number % KEPT` only.
    kept: Mutex<Vec<Kept>>,
}

impl Table {
    /// Reads the index. `places` must be those of a file that is as long as they say: that bounds the allocation.
    pub(super) fn read(file: &File, places: Places, files: u32) -> Result<Self, CompositionError> {
        let blocks =
            usize::try_from(places.record_blocks).map_err(|_| CompositionError::Damaged("its size"))?;
        let mut bytes = vec![0; blocks * size_of::<U32>()];
        file.read_exact_at(&mut bytes, places.index).map_err(CompositionError::Read)?;
        let index: Vec<u32> = bytes
            .chunks_exact(size_of::<U32>())
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes")))
            .collect();
        if !index.is_sorted_by(|one, next| one < next) {
            return Err(CompositionError::Damaged("the order of its files"));
        }
        Ok(Self { places, files, index, kept: Mutex::new(vec![None; KEPT]) })
    }

    /// The last record that begins at `block` or before, with its number.
    pub(super) fn find(&self, file: &File, block: u32) -> Result<Option<(u32, Record)>, CompositionError> {
        let Some(number) = self.index.partition_point(|first| *first <= block).checked_sub(1) else {
            return Ok(None);
        };
        let records = self.block(file, number)?;
        let records = &records[..self.count(number)];
        let within = records.partition_point(|record| record.first_block.get() <= block);
        // The index said that the first one begins there: a file that says otherwise is damaged.
        let within = within.checked_sub(1).ok_or(CompositionError::Damaged("the index of its files"))?;
        let id = u32::try_from(number * RECORDS_PER_BLOCK + within).expect("not more than `files`");
        Ok(Some((id, records[within])))
    }

    /// Record `id`.
    pub(super) fn get(&self, file: &File, id: u32) -> Result<Record, CompositionError> {
        if id >= self.files {
            return Err(CompositionError::Damaged("the number of its files"));
        }
        let id = usize::try_from(id).expect("usize has at least 32 bits");
        Ok(self.block(file, id / RECORDS_PER_BLOCK)?[id % RECORDS_PER_BLOCK])
    }

    /// The first image block of the record behind `id`, if there is one.
    pub(super) fn next_block(&self, file: &File, id: u32) -> Result<Option<u32>, CompositionError> {
        match id.checked_add(1) {
            Some(next) if next < self.files => {
                let number = usize::try_from(next).expect("usize has at least 32 bits");
                if number % RECORDS_PER_BLOCK == 0 {
                    return Ok(self.index.get(number / RECORDS_PER_BLOCK).copied());
                }
                Ok(Some(self.get(file, next)?.first_block.get()))
            }
            _ => Ok(None),
        }
    }

    /// How many records block `number` holds.
    fn count(&self, number: usize) -> usize {
        let files = usize::try_from(self.files).expect("usize has at least 32 bits");
        (files - number * RECORDS_PER_BLOCK).min(RECORDS_PER_BLOCK)
    }

    fn block(&self, file: &File, number: usize) -> Result<Arc<Block>, CompositionError> {
        // A thread that panicked here left nothing half-done: a place holds a whole block or none.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut kept[number % KEPT];
        if let Some((which, block)) = place
            && *which == number
        {
            return Ok(Arc::clone(block));
        }
        let mut bytes = [0; BLOCK_SIZE];
        let offset = u64::try_from(number * BLOCK_SIZE).expect("usize has at most 64 bits");
        file.read_exact_at(&mut bytes, self.places.records + offset).map_err(CompositionError::Read)?;
        let block = Block::read_from_bytes(&bytes).expect("64 records fill a block");
        let block = Arc::new(block);
        *place = Some((number, Arc::clone(&block)));
        Ok(block)
    }
}
