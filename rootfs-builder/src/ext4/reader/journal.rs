//! The journal, replayed on paper: which of its blocks take the place of which others.
//!
//! In: the journal as the guest left it. Out: a map from each replaced block to the one that holds its newest version; not
//! more entries than the journal has blocks. As in `do_one_pass()` of `fs/jbd2/recovery.c`, the log ends where a block is not
//! of the transaction that is due, and a transaction without its commit block did not happen.
//! It must never know what the blocks are for.
//!
//! Checksums of the journal (`CSUM_V2`, `CSUM_V3`), asynchronous and fast commits belong to features that our file systems do
//! not have: a journal with one of them is refused.

use std::collections::BTreeMap;

use super::disk::{BLOCK, Block, Disk, Logged, parse};
use super::error::DiskError;
use super::spec::{
    JBD2_COMMIT_BLOCK, JBD2_DESCRIPTOR_BLOCK, JBD2_FLAG_ESCAPE, JBD2_FLAG_LAST_TAG, JBD2_FLAG_SAME_UUID,
    JBD2_INCOMPAT_64BIT, JBD2_INCOMPAT_REVOKE, JBD2_REVOKE_BLOCK, JournalHeader, JournalTag,
};
use crate::ext4::geometry::Geometry;
use crate::ext4::spec::{BLOCK_SIZE, JBD2_MAGIC_NUMBER, JBD2_SUPERBLOCK_V2, JournalSuperBlock};

/// Of a UUID behind a tag that has none in common with the one before.
const UUID_SIZE: usize = 16;

/// What the journal has to say about `disk`, which must not have been replayed. With `needed` false, as the super block says
/// after an unmount or a freeze, it must be empty.
///
/// # Errors
/// [`DiskError`].
pub(super) fn replay(
    disk: &Disk,
    geometry: &Geometry,
    needed: bool,
) -> Result<BTreeMap<u64, Logged>, DiskError> {
    let mut log = Log::open(disk, geometry)?;
    match log.start {
        0 => Ok(BTreeMap::new()),
        _ if needed => log.replay(),
        _ => Err(broken(0, "it has transactions, but the super block says that there are none")),
    }
}

/// A journal while it is read.
struct Log<'a> {
    disk: &'a Disk,
    /// The disk's block that is the journal's first.
    first: u64,
    /// Blocks in it.
    length: u64,
    /// With 64 bits in block numbers.
    wide: bool,
    /// Where the oldest transaction begins; 0 if there is none.
    start: u64,
    /// The transaction that is due.
    sequence: u32,
    /// The next block to read.
    next: u64,
    /// How many were read: the log may not bite its tail.
    seen: u64,
}

/// What a transaction wants, as long as it has not been committed.
#[derive(Default)]
struct Pending {
    blocks: Vec<(u64, Logged)>,
    /// Blocks of the journal that list revoked ones.
    revokes: Vec<u64>,
}

fn broken(block: u64, what: &'static str) -> DiskError {
    DiskError::Journal { block, what }
}

impl<'a> Log<'a> {
    fn open(disk: &'a Disk, geometry: &Geometry) -> Result<Self, DiskError> {
        let bytes = disk.block(geometry.first_journal())?;
        let head: JournalSuperBlock = parse(&bytes).ok_or_else(|| broken(0, "it has no super block"))?;
        let number = |value: zerocopy::big_endian::U32| u64::from(value.get());
        let ours = head.h_magic.get() == JBD2_MAGIC_NUMBER
            && head.h_blocktype.get() == JBD2_SUPERBLOCK_V2
            && number(head.s_blocksize) == BLOCK_SIZE
            && number(head.s_maxlen) == geometry.journal
            && head.s_first.get() == 1;
        if !ours {
            return Err(broken(0, "its super block is not ours"));
        }
        let incompat = head.s_feature_incompat.get();
        if incompat & !(JBD2_INCOMPAT_REVOKE | JBD2_INCOMPAT_64BIT) != 0
            || head.s_feature_compat.get() != 0
            || head.s_feature_ro_compat.get() != 0
        {
            return Err(broken(0, "it has features that are not ours"));
        }
        let start = number(head.s_start);
        if start >= geometry.journal {
            return Err(broken(0, "it starts behind its end"));
        }
        Ok(Self {
            disk,
            first: geometry.first_journal(),
            length: geometry.journal,
            wide: incompat & JBD2_INCOMPAT_64BIT != 0,
            start,
            sequence: head.s_sequence.get(),
            next: start,
            seen: 0,
        })
    }

    fn replay(&mut self) -> Result<BTreeMap<u64, Logged>, DiskError> {
        let mut replaced = BTreeMap::new();
        let mut pending = Pending::default();
        loop {
            let at = self.take()?;
            let bytes = self.disk.block(self.first + at)?;
            let Some(header) = parse::<JournalHeader>(&bytes) else { break };
            if header.h_magic.get() != JBD2_MAGIC_NUMBER || header.h_sequence.get() != self.sequence {
                break;
            }
            match header.h_blocktype.get() {
                JBD2_DESCRIPTOR_BLOCK => self.describe(at, &bytes, &mut pending)?,
                JBD2_REVOKE_BLOCK => pending.revokes.push(at),
                JBD2_COMMIT_BLOCK => {
                    let done = std::mem::take(&mut pending);
                    replaced.extend(done.blocks);
                    for revoke in done.revokes {
                        // What is revoked was logged by this transaction at the latest: later ones are not here yet.
                        self.revoke(revoke, &mut replaced)?;
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                }
                _ => break,
            }
        }
        Ok(replaced)
    }

    /// The number of the next block; the log runs from its last block to the one behind its super block.
    fn take(&mut self) -> Result<u64, DiskError> {
        let at = self.next;
        self.seen += 1;
        if self.seen > self.length {
            return Err(broken(at, "the log has no end"));
        }
        self.next = if at + 1 == self.length { 1 } else { at + 1 };
        Ok(at)
    }

    /// The tags of a descriptor block; the blocks they are about follow it.
    fn describe(&mut self, at: u64, bytes: &Block, pending: &mut Pending) -> Result<(), DiskError> {
        let tag_size = size_of::<JournalTag>() + if self.wide { 4 } else { 0 };
        let mut position = size_of::<JournalHeader>();
        while position + tag_size <= BLOCK {
            let Some(tag) = parse::<JournalTag>(&bytes[position..]) else { break };
            let high = if self.wide { number(&bytes[position + size_of::<JournalTag>()..]) } else { 0 };
            let block = (high << 32) | u64::from(tag.t_blocknr.get());
            let own = self.first..self.first + self.length;
            if block >= self.disk.blocks || own.contains(&block) {
                return Err(broken(at, "it logs a block that the file system cannot have logged"));
            }
            let escaped = tag.t_flags.get() & JBD2_FLAG_ESCAPE != 0;
            let logged = Logged { at: self.first + self.take()?, escaped };
            pending.blocks.push((block, logged));
            position += tag_size;
            if tag.t_flags.get() & JBD2_FLAG_SAME_UUID == 0 {
                position += UUID_SIZE;
            }
            if tag.t_flags.get() & JBD2_FLAG_LAST_TAG != 0 {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the blocks listed in the journal's block `at`: `jbd2_journal_revoke_header_t` and block numbers.
    fn revoke(&self, at: u64, replaced: &mut BTreeMap<u64, Logged>) -> Result<(), DiskError> {
        let bytes = self.disk.block(self.first + at)?;
        let start = size_of::<JournalHeader>() + 4;
        let used = usize::try_from(number(&bytes[size_of::<JournalHeader>()..])).unwrap_or(usize::MAX);
        if !(start..=BLOCK).contains(&used) {
            return Err(broken(at, "its list of revoked blocks has an impossible length"));
        }
        let size = if self.wide { 8 } else { 4 };
        for record in bytes[start..used].chunks_exact(size) {
            let block =
                if self.wide { (number(record) << 32) | number(&record[4..]) } else { number(record) };
            replaced.remove(&block);
        }
        Ok(())
    }
}

/// Four bytes, big-endian.
fn number(bytes: &[u8]) -> u64 {
    parse::<zerocopy::big_endian::U32>(bytes).map_or(0, |value| u64::from(value.get()))
}
