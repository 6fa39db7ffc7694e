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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    /// The first transaction's.
    const SEQUENCE: u32 = u32::MAX - 1;

    /// A disk of 16 MiB with a journal that starts three blocks before its end.
    struct Made {
        disk: Disk,
        geometry: Geometry,
        next: u64,
    }

    impl Made {
        fn new(incompat: u32) -> Self {
            let geometry = Geometry::of(16 << 20).unwrap();
            let file = tempfile::tempfile().unwrap();
            file.set_len(16 << 20).unwrap();
            let disk = Disk { file, blocks: geometry.blocks, logged: BTreeMap::new() };
            let next = geometry.journal - 3;
            let made = Self { disk, geometry, next };
            let start = u32::try_from(next).unwrap();
            let length = u32::try_from(geometry.journal).unwrap();
            let head = [
                JBD2_MAGIC_NUMBER,
                JBD2_SUPERBLOCK_V2,
                0,
                4096,
                length,
                1,
                SEQUENCE,
                start,
                0,
                0,
                incompat,
                0,
            ];
            made.write(0, &head);
            made
        }

        fn write(&self, at: u64, words: &[u32]) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            self.disk.file.write_all_at(&bytes, (self.geometry.first_journal() + at) * BLOCK_SIZE).unwrap();
        }

        fn add(&mut self, words: &[u32]) -> u64 {
            let at = self.next;
            self.write(at, words);
            self.next = if at + 1 == self.geometry.journal { 1 } else { at + 1 };
            self.geometry.first_journal() + at
        }

        /// A descriptor and the blocks it is about, by number and flags; where these are.
        fn log(&mut self, sequence: u32, blocks: &[(u32, u16)]) -> Vec<Logged> {
            let mut words = vec![JBD2_MAGIC_NUMBER, JBD2_DESCRIPTOR_BLOCK, sequence];
            for (index, (block, flags)) in blocks.iter().enumerate() {
                let last = if index + 1 == blocks.len() { JBD2_FLAG_LAST_TAG } else { 0 };
                words.extend([*block, u32::from(flags | last), 0]);
                if flags & JBD2_FLAG_SAME_UUID == 0 {
                    words.extend([1, 2, 3, 4]);
                }
            }
            self.add(&words);
            let escaped = |flags: u16| flags & JBD2_FLAG_ESCAPE != 0;
            blocks.iter().map(|(_, flags)| Logged { at: self.add(&[7]), escaped: escaped(*flags) }).collect()
        }

        fn commit(&mut self, sequence: u32) {
            self.add(&[JBD2_MAGIC_NUMBER, JBD2_COMMIT_BLOCK, sequence]);
        }

        fn revoke(&mut self, sequence: u32, block: u32) {
            self.add(&[JBD2_MAGIC_NUMBER, JBD2_REVOKE_BLOCK, sequence, 24, 0, block]);
        }

        fn replay(&self) -> Result<Vec<(u64, Logged)>, DiskError> {
            replay(&self.disk, &self.geometry, true).map(|map| map.into_iter().collect())
        }
    }

    const WIDE: u32 = JBD2_INCOMPAT_64BIT | JBD2_INCOMPAT_REVOKE;
    const SAME: u16 = JBD2_FLAG_SAME_UUID;

    #[test]
    fn a_log_is_replayed_around_the_end_as_far_as_it_is_committed() {
        let mut made = Made::new(WIDE);
        let first = made.log(SEQUENCE, &[(10, 0), (11, SAME), (12, SAME | JBD2_FLAG_ESCAPE)]);
        made.commit(SEQUENCE);
        // The sequence passes 2^32 too.
        let second = made.log(SEQUENCE + 1, &[(11, 0), (13, SAME)]);
        made.revoke(SEQUENCE + 1, 10);
        made.commit(SEQUENCE + 1);
        let third = made.log(0, &[(10, 0)]);
        made.commit(0);
        made.log(1, &[(12, 0), (14, SAME)]);
        let expected = [(10, third[0]), (11, second[0]), (12, first[2]), (13, second[1])];
        assert_eq!(made.replay().unwrap(), expected);
        assert!(first[2].escaped && first[2].at < first[0].at, "it wrapped");
        assert!(replay(&made.disk, &made.geometry, false).is_err(), "the super block says that it is empty");
    }

    #[test]
    fn what_is_revoked_and_not_logged_again_is_left_alone() {
        let mut made = Made::new(WIDE);
        made.log(SEQUENCE, &[(10, 0), (11, SAME)]);
        made.commit(SEQUENCE);
        made.revoke(SEQUENCE + 1, 10);
        let kept = made.replay().unwrap();
        assert_eq!(kept.len(), 2, "the revocation was not committed");
        made.commit(SEQUENCE + 1);
        assert_eq!(made.replay().unwrap().iter().map(|(block, _)| *block).collect::<Vec<_>>(), [11]);
    }

    #[test]
    fn broken_journals_are_refused() {
        // Checksums and fast commits.
        for incompat in [0x8, 0x10, 0x20, 0x40] {
            assert!(Made::new(incompat).replay().is_err(), "{incompat:#x}");
        }
        let journal = u32::try_from(Made::new(WIDE).geometry.first_journal()).unwrap();
        for block in [journal, 4096, !0] {
            let mut made = Made::new(WIDE);
            made.log(SEQUENCE, &[(block, 0)]);
            made.commit(SEQUENCE);
            assert!(made.replay().is_err(), "{block}");
        }
        // Nothing but one descriptor, everywhere.
        let mut made = Made::new(WIDE);
        for _ in 0..1023 {
            made.add(&[JBD2_MAGIC_NUMBER, JBD2_DESCRIPTOR_BLOCK, SEQUENCE, 10, 8, 0]);
        }
        assert!(made.replay().is_err());
    }

    proptest! {
        #[test]
        fn any_log_ends(blocks in proptest::collection::vec((0_u32..6, proptest::collection::vec(0_u32..5000, 0..30), 0_u32..2), 1..40)) {
            let mut made = Made::new(WIDE);
            let mut sequence = SEQUENCE;
            for (kind, words, more) in blocks {
                made.add(&[&[JBD2_MAGIC_NUMBER, kind, sequence], &*words].concat());
                sequence = sequence.wrapping_add(more);
            }
            if let Ok(replaced) = made.replay() {
                prop_assert!(replaced.len() < 1024);
            }
        }
    }
}
