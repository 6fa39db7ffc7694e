//! What a write-back brought, remembered for the next one of the same scratch disk.
//!
//! In: names, and for files what they looked like in the guest and on the host when they were brought. Out: a small file,
//! replaced as a whole; read back, a damaged one is an error. It must never know how something is brought.
//!
//! Why it is needed: what a container made and deleted again leaves no trace in the upper directory, because the image never
//! had it; but if a write-back came in between, the root has it.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::WritebackError;
use super::names::{Names, ROOT};
use crate::checksum::{SEED, crc32c};
use crate::output::{Durability, Output};
use crate::tree::Time;

const MAGIC: [u8; 8] = *b"msb-wb\0\x01";
/// No manifest within the limits is larger, in bytes.
const SIZE_MAX: u64 = 2 << 30;

const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const FILE_SEEN: u8 = 2;

/// What a regular file was when it was brought: if neither side has changed since, the next write-back need not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Inode, generation, and time of change in the guest.
    pub(super) guest: (u32, u32, Time),
    /// Inode and time of change on the host.
    pub(super) host: (u64, Time),
}

/// What was brought under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// A directory.
    Directory,
    /// Anything else.
    File(Option<Seen>),
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    count: U32,
    /// CRC-32C of all that follows.
    checksum: U32,
}

/// A name's bytes follow it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    parent: U32,
    guest_inode: U32,
    guest_generation: U32,
    guest_nanoseconds: U32,
    guest_seconds: I64,
    host_inode: U64,
    host_seconds: I64,
    host_nanoseconds: U32,
    kind: u8,
    name_length: u8,
}

impl Record {
    fn new(parent: u32, name_length: usize, brought: Brought) -> Self {
        let mut record = <Self as zerocopy::FromZeros>::new_zeroed();
        record.parent = U32::new(parent);
        record.name_length = u8::try_from(name_length).expect("a lawful name");
        record.kind = match brought {
            Brought::Directory => DIRECTORY,
            Brought::File(None) => FILE,
            Brought::File(Some(seen)) => {
                record.guest_inode = U32::new(seen.guest.0);
                record.guest_generation = U32::new(seen.guest.1);
                record.guest_seconds = I64::new(seen.guest.2.seconds);
                record.guest_nanoseconds = U32::new(seen.guest.2.nanoseconds);
                record.host_inode = U64::new(seen.host.0);
                record.host_seconds = I64::new(seen.host.1.seconds);
                record.host_nanoseconds = U32::new(seen.host.1.nanoseconds);
                FILE_SEEN
            }
        };
        record
    }

    fn brought(&self) -> Option<Brought> {
        let time =
            |seconds: I64, nanoseconds: U32| Time { seconds: seconds.get(), nanoseconds: nanoseconds.get() };
        Some(match self.kind {
            DIRECTORY => Brought::Directory,
            FILE => Brought::File(None),
            FILE_SEEN => Brought::File(Some(Seen {
                guest: (
                    self.guest_inode.get(),
                    self.guest_generation.get(),
                    time(self.guest_seconds, self.guest_nanoseconds),
                ),
                host: (self.host_inode.get(), time(self.host_seconds, self.host_nanoseconds)),
            })),
            _ => return None,
        })
    }
}

/// Reads a manifest; none if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Names<Brought>>, WritebackError> {
    let failed = |source| WritebackError::ReadManifest { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    match parse(&bytes) {
        Some(names) => Ok(Some(names)),
        None => Err(WritebackError::Manifest { path: path.to_owned() }),
    }
}

fn parse(bytes: &[u8]) -> Option<Names<Brought>> {
    let (header, mut rest) = Header::read_from_prefix(bytes).ok()?;
    if header.magic != MAGIC || crc32c(SEED, rest) != header.checksum.get() {
        return None;
    }
    let mut names = Names::new(Brought::Directory);
    for _ in 0..header.count.get() {
        let (record, behind) = Record::read_from_prefix(rest).ok()?;
        let (name, behind) = behind.split_at_checked(record.name_length.into())?;
        let parent = record.parent.get();
        if parent >= names.len() || names.at(parent).value != Brought::Directory {
            return None;
        }
        names.add(parent, name, record.brought()?).ok()?;
        rest = behind;
    }
    rest.is_empty().then_some(names)
}

fn bytes(names: &Names<Brought>) -> Vec<u8> {
    let mut body = Vec::new();
    for number in ROOT + 1..names.len() {
        let (name, entry) = (names.name(number), names.at(number));
        body.extend_from_slice(Record::new(entry.parent, name.len(), entry.value).as_bytes());
        body.extend_from_slice(name);
    }
    let header =
        Header { magic: MAGIC, count: U32::new(names.len() - 1), checksum: U32::new(crc32c(SEED, &body)) };
    [header.as_bytes(), &body].concat()
}

/// Replaces the manifest, so that after a crash there is the one or the other.
pub(super) fn write(path: &Path, names: &Names<Brought>) -> Result<(), WritebackError> {
    let output = Output::create(path)?;
    output.file().write_all(&bytes(names)).map_err(|source| WritebackError::Host {
        action: "write the manifest",
        path: path.to_owned(),
        source,
    })?;
    Ok(output.commit(Durability::Durable)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> Names<Brought> {
        let time = |seconds| Time { seconds, nanoseconds: 999_999_999 };
        let seen = Seen { guest: (12, !0, time(-1)), host: (u64::MAX, time(1 << 40)) };
        let mut names = Names::new(Brought::Directory);
        names.add(ROOT, b"\xff", Brought::Directory).unwrap();
        names.add(1, b"a", Brought::File(None)).unwrap();
        names.add(1, &[b'b'; 255], Brought::File(Some(seen))).unwrap();
        names
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest");
        assert!(read(&path).unwrap().is_none());
        write(&path, &example()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(example()));
        write(&path, &Names::new(Brought::Directory)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_one_is_an_error() {
        let whole = bytes(&example());
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_none(), "{cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_none(), "{at}");
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("manifest"), "nonsense").unwrap();
        let error = read(&directory.path().join("manifest")).unwrap_err();
        assert!(matches!(error, WritebackError::Manifest { .. }) && !error.is_guest(), "{error}");
    }

    proptest! {
        /// With a right checksum, so that the records are looked at.
        #[test]
        fn any_records_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..400), count in 0_u32..8) {
            let checksum = U32::new(crc32c(SEED, &body));
            let header = Header { magic: MAGIC, count: U32::new(count), checksum };
            if let Some(names) = parse(&[header.as_bytes(), &body].concat()) {
                prop_assert_eq!(names.len(), count + 1);
            }
        }
    }
}
