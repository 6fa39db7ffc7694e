//! The archive as a sequence of entries, none of them believed.
//!
//! In: bytes. Out: an [`Entry`] each, all of its headers read together and checked, and then its data. Not the `tar` crate's
//! reader: that one takes an extended header of any size into memory, and splits it at line ends that a value may hold.
//! Formats: ustar and pax (POSIX.1-2024, pax, "Interchange Format"), GNU's long names and sparse files (tar manual, "Basic Tar
//! Format").

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::error::UnpackError;
use super::limits;
use super::pax::{self, Attributes};

/// Bytes in a block.
const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) enum What {
    Regular,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::image) struct Time {
    pub(in crate::image) seconds: i64,
    pub(in crate::image) nanoseconds: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Xattr {
    pub(in crate::image) name: Vec<u8>,
    pub(in crate::image) value: Vec<u8>,
}

/// What is said of a file besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::image) struct Metadata {
    pub(in crate::image) uid: u32,
    pub(in crate::image) gid: u32,
    /// The lower twelve bits.
    pub(in crate::image) mode: u32,
    pub(in crate::image) mtime: Time,
    pub(in crate::image) xattrs: Vec<Xattr>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Entry {
    /// As the archive has it.
    pub(in crate::image) path: Vec<u8>,
    pub(in crate::image) what: What,
    pub(in crate::image) metadata: Metadata,
    /// Of the file, holes included.
    pub(in crate::image) size: u64,
    /// Where its data goes, in order: offset and length. What is between is holes.
    pub(in crate::image) extents: Vec<(u64, u64)>,
}

impl Entry {
    pub(in crate::image) fn shown(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path[..self.path.len().min(limits::PATH)]))
    }
}

/// A tar archive that is read from its start to its end.
pub(in crate::image) struct Archive<R> {
    from: R,
    at: u64,
    /// Bytes of the current entry's data that were not read, and of its padding.
    left: u64,
    padding: u64,
    entries: u64,
    limit: u64,
}

impl<R: Read> Archive<R> {
    pub(in crate::image) fn new(from: R, limit: u64) -> Self {
        Self { from, at: 0, left: 0, padding: 0, entries: 0, limit }
    }

    /// The next entry; none at the end.
    pub(in crate::image) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut attributes = Attributes::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.limit {
                return Err(UnpackError::Limit { what: "entries", limit: self.limit });
            }
            let size = unless_empty(&header.as_old().size, header.entry_size())
                .map_err(|_| self.wrong("a size that is no number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let text = self.small(size)?;
                    pax::parse(&text, &mut attributes).map_err(|what| self.wrong(what))?;
                }
                // Of the whole archive: git writes its commit's name there.
                EntryType::XGlobalHeader => drop(self.small(size)?),
                EntryType::GNULongName => attributes.path = Some(until_nul(self.small(size)?)),
                EntryType::GNULongLink => attributes.link = Some(until_nul(self.small(size)?)),
                _ => return self.entry(&header, size, attributes).map(Some),
            }
        }
    }

    /// Data of the current entry.
    pub(in crate::image) fn data(&mut self, buffer: &mut [u8]) -> Result<usize, UnpackError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.from.read(&mut buffer[..most]).map_err(UnpackError::Read)?;
        if count == 0 {
            return Err(self.wrong("it ends within a file"));
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }

    /// Reads what is behind the end, which belongs to what the digest is of.
    pub(in crate::image) fn finish(mut self) -> Result<R, UnpackError> {
        io::copy(&mut self.from, &mut io::sink()).map_err(UnpackError::Read)?;
        Ok(self.from)
    }

    fn entry(&mut self, header: &Header, size: u64, attributes: Attributes) -> Result<Entry, UnpackError> {
        let number = |given: Option<u64>, own: io::Result<u64>, what| match given {
            Some(number) => Ok(number),
            None => own.map_err(|_| what),
        };
        let uid = number(
            attributes.uid,
            unless_empty(&header.as_old().uid, header.uid()),
            "an owner that is no number",
        );
        let gid = number(
            attributes.gid,
            unless_empty(&header.as_old().gid, header.gid()),
            "a group that is no number",
        );
        let (uid, gid) = (uid.and_then(id), gid.and_then(id));
        let mode = unless_empty(&header.as_old().mode, header.mode().map(u64::from));
        let mode = mode.ok().and_then(|mode| u32::try_from(mode).ok()).ok_or("a mode that is no number");
        let mtime = match attributes.mtime {
            Some(time) => Ok(time),
            None => mtime(header),
        };
        let wrong = |what| self.wrong(what);
        let metadata = Metadata {
            uid: uid.map_err(wrong)?,
            gid: gid.map_err(wrong)?,
            mode: mode.map_err(wrong)? & 0o7777,
            mtime: mtime.map_err(wrong)?,
            xattrs: attributes.xattrs,
        };
        let path = attributes.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link =
            || attributes.link.clone().or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let device =
            || -> Option<(u32, u32)> { Some((header.device_major().ok()??, header.device_minor().ok()??)) };
        let what = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => What::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => What::Regular,
            EntryType::Directory => What::Directory,
            EntryType::Symlink => What::Symlink(link().ok_or_else(|| wrong("a link to nothing"))?),
            EntryType::Link => What::HardLink(link().ok_or_else(|| wrong("a link to nothing"))?),
            EntryType::Fifo => What::Fifo,
            EntryType::Char | EntryType::Block => {
                let (major, minor) = device().ok_or_else(|| wrong("a device without numbers"))?;
                match header.entry_type() {
                    EntryType::Char => What::Character { major, minor },
                    _ => What::Block { major, minor },
                }
            }
            _ => return Err(wrong("an entry of a kind that no image has")),
        };
        if attributes.sparse {
            return Err(wrong("a sparse file as pax has it; GNU's own format can be read"));
        }
        let mut entry = Entry { path, what, metadata, size: 0, extents: Vec::new() };
        // POSIX lets a hard link come with data, and old archives give other kinds a size without any.
        let has_data = matches!(entry.what, What::Regular);
        let stored = attributes.size.unwrap_or(size);
        if has_data {
            self.left = stored;
            self.padding = padding(stored);
            entry.size = stored;
            entry.extents = vec![(0, stored)];
            if header.entry_type() == EntryType::GNUSparse {
                self.sparse(header, &mut entry)?;
            }
        }
        Ok(entry)
    }

    /// GNU's map of what there is of a file.
    fn sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<(), UnpackError> {
        let gnu = header.as_gnu().ok_or_else(|| self.wrong("a sparse file in an archive not of GNU's"))?;
        let stored = entry.size;
        entry.size = gnu.real_size().map_err(|_| self.wrong("a size that is no number"))?;
        let mut parts: Vec<_> = gnu.sparse.iter().filter(|part| !part.is_empty()).map(extent).collect();
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.exact(block.as_mut_bytes())?;
            parts.extend(block.sparse().iter().filter(|part| !part.is_empty()).map(extent));
            more = block.is_extended();
            if parts.len() > 1 << 16 {
                return Err(UnpackError::Limit { what: "parts of a sparse file", limit: 1 << 16 });
            }
        }
        let (mut end, mut sum) = (0_u64, 0_u64);
        entry.extents.clear();
        for part in parts {
            let (offset, length) = part.ok_or_else(|| self.wrong("a sparse file's map that is no number"))?;
            if length > 0 {
                let stop = offset.checked_add(length).filter(|stop| offset >= end && *stop <= entry.size);
                end = stop.ok_or_else(|| self.wrong("a sparse file's map that is out of order"))?;
                sum += length;
                entry.extents.push((offset, length));
            }
        }
        if sum != stored {
            return Err(self.wrong("a sparse file's map that is not of its data"));
        }
        Ok(())
    }

    /// The next header that is not empty.
    fn header(&mut self) -> Result<Option<Header>, UnpackError> {
        let mut header = Header::new_old();
        let mut filled = 0;
        while filled < BLOCK {
            let rest = &mut header.as_mut_bytes()[filled..];
            match self.from.read(rest).map_err(UnpackError::Read)? {
                // As all others do: an archive may lack its end.
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.wrong("it ends within a header")),
                count => filled += count,
            }
        }
        self.at += BLOCK as u64;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (before, rest) = bytes.split_at(148);
        let sum =
            before.iter().chain(&rest[8..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
        match header.cksum() {
            Ok(said) if said == sum => Ok(Some(header)),
            _ => Err(self.wrong("a header whose checksum is wrong")),
        }
    }

    /// What an extended header holds.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > limits::HEADER {
            return Err(UnpackError::Limit { what: "bytes in a header", limit: limits::HEADER });
        }
        let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
        self.exact(&mut text)?;
        self.padding = padding(size);
        Ok(text)
    }

    fn skip_rest(&mut self) -> Result<(), UnpackError> {
        let size = self.left.saturating_add(self.padding);
        let skipped =
            io::copy(&mut (&mut self.from).take(size), &mut io::sink()).map_err(UnpackError::Read)?;
        self.at += skipped;
        if skipped < size {
            return Err(self.wrong("it ends within a file"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), UnpackError> {
        self.from.read_exact(buffer).map_err(UnpackError::Read)?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    fn wrong(&self, what: &'static str) -> UnpackError {
        UnpackError::Archive { at: self.at, what }
    }
}

/// A field that is left empty is 0, as all others read it.
fn unless_empty(field: &[u8], number: io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { number }
}

/// Up to the next block.
fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn extent(part: &tar::GnuSparseHeader) -> Option<(u64, u64)> {
    Some((part.offset().ok()?, part.length().ok()?))
}

/// The highest number means none (chown(2)).
fn id(number: u64) -> Result<u32, &'static str> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or("an owner that no system has")
}

/// In GNU's binary form it may be before 1970.
fn mtime(header: &Header) -> Result<Time, &'static str> {
    let field = &header.as_old().mtime;
    let seconds = if field[0] == 0xff {
        let low: [u8; 8] = field[4..].try_into().map_err(|_| "a time that is no number")?;
        i64::from_be_bytes(low)
    } else {
        let seconds = unless_empty(field, header.mtime()).map_err(|_| "a time that is no number")?;
        i64::try_from(seconds).map_err(|_| "a time that no system has")?
    };
    Ok(Time { seconds, nanoseconds: 0 })
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
