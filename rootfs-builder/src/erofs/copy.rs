//! The second step of an image: the files' data goes where the layout says.
//!
//! In: a walked root, extents, an open image. Out: the image's blocks from the first extent on. What is a hole in a source
//! stays one in the image.
//! The sources are hostile and may be changing: each is opened beneath the root without following a link, must be the very
//! file that was laid out, and gives exactly the bytes that were laid out or an error. It must never know the metadata.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, StatxFlags, copy_file_range, openat2, seek,
    statx,
};
use rustix::io::Errno;

use super::layout::Extent;
use super::spec::BLOCK_SIZE;
use crate::tree::Walked;

/// Files up to this many bytes are gathered and written together; longer ones are copied by the kernel.
const GATHERED_MAX: usize = 128 << 10;
/// How much is gathered, in bytes.
const BUFFER: usize = 1 << 20;

/// A file's data could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Opening it.
    #[error("Cannot open {path:?} in the root")]
    Open {
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading it.
    #[error("Cannot read {path:?} in the root")]
    Read {
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is another file by now, or shorter.
    #[error("{path:?} in the root changed while it was copied: nothing may write there meanwhile")]
    Changed {
        /// Relative to the root.
        path: PathBuf,
    },
    /// Writing the image.
    #[error("Cannot write the image: check the free space")]
    Write(#[source] io::Error),
}

/// Copies the data of `extents`, which are in order, to `image`.
///
/// # Errors
/// [`CopyError`]; the image is then of no use.
pub(super) fn copy(walked: &Walked, extents: &[Extent], image: &File) -> Result<(), CopyError> {
    let mut gathered = Gathered { image, start: 0, bytes: Vec::new() };
    for extent in extents {
        let source = open(walked, extent)?;
        let copied = match usize::try_from(extent.length) {
            Ok(length) if length <= GATHERED_MAX => gathered.add(&source, extent.image_offset, length),
            _ => large(&source, image, extent),
        };
        copied.map_err(|error| error.at(|| walked.tree.path(extent.inode)))?;
    }
    gathered.flush().map_err(CopyError::Write)
}

/// Opens an extent's file and sees that it is the one.
fn open(walked: &Walked, extent: &Extent) -> Result<File, CopyError> {
    let path = walked.tree.path(extent.inode);
    // A FIFO in the file's place must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = match openat2(&walked.root, &path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
            return Err(CopyError::Changed { path });
        }
        Err(error) => return Err(CopyError::Open { path, source: error.into() }),
    };
    let stat = match statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS) {
        Ok(stat) => stat,
        Err(error) => return Err(CopyError::Read { path, source: error.into() }),
    };
    let identity = walked.tree.node(extent.inode).inode.identity;
    let same = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
        && identity.device == (stat.stx_dev_major, stat.stx_dev_minor)
        && identity.inode == stat.stx_ino
        && stat.stx_size == extent.length;
    if same { Ok(file.into()) } else { Err(CopyError::Changed { path }) }
}

/// [`CopyError`] before it is known which file it was.
enum Failed {
    Read(io::Error),
    Short,
    Write(io::Error),
}

impl Failed {
    fn at(self, path: impl FnOnce() -> PathBuf) -> CopyError {
        match self {
            Self::Read(source) => CopyError::Read { path: path(), source },
            Self::Short => CopyError::Changed { path: path() },
            Self::Write(source) => CopyError::Write(source),
        }
    }
}

/// Data of small files on its way into the image: one write for many of them.
struct Gathered<'a> {
    image: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl Gathered<'_> {
    fn add(&mut self, source: &File, offset: u64, length: usize) -> Result<(), Failed> {
        let end = self.bytes.len().next_multiple_of(BLOCK_SIZE);
        let follows = u64::try_from(end).is_ok_and(|end| self.start + end == offset);
        if !follows || end + length > BUFFER {
            self.flush().map_err(Failed::Write)?;
            self.start = offset;
        } else {
            self.bytes.resize(end, 0);
        }
        let here = self.bytes.len();
        self.bytes.resize(here + length, 0);
        source.read_exact_at(&mut self.bytes[here..], 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Failed::Short,
            _ => Failed::Read(error),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.image.write_all_at(&self.bytes, self.start)?;
        self.bytes.clear();
        Ok(())
    }
}

/// Copies a file's data without its holes.
fn large(source: &File, image: &File, extent: &Extent) -> Result<(), Failed> {
    let mut position = 0;
    while position < extent.length {
        let data = match seek(source, SeekFrom::Data(position)) {
            Ok(data) => data,
            // Nothing but a hole from here on, if it still is as long as that.
            Err(Errno::NXIO) => return still(source, extent.length),
            // A file system that cannot tell.
            Err(_) => position,
        };
        let hole = seek(source, SeekFrom::Hole(data)).unwrap_or(extent.length).min(extent.length);
        if data < hole {
            range(source, image, data..hole, extent.image_offset)?;
        }
        position = hole.max(data);
    }
    Ok(())
}

/// A file that has become shorter would have its end taken for a hole.
fn still(source: &File, length: u64) -> Result<(), Failed> {
    let now = source.metadata().map_err(Failed::Read)?.len();
    if now < length { Err(Failed::Short) } else { Ok(()) }
}

/// Copies a range of a file, in the kernel when both file systems agree to it.
fn range(source: &File, image: &File, range: std::ops::Range<u64>, shift: u64) -> Result<(), Failed> {
    let (mut from, mut to) = (range.start, shift + range.start);
    while from < range.end {
        let length = usize::try_from(range.end - from).unwrap_or(1 << 30).min(1 << 30);
        match copy_file_range(source, Some(&mut from), image, Some(&mut to), length) {
            Ok(0) => return Err(Failed::Short),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                return Err(Failed::Write(error.into()));
            }
            Err(_) => return plain(source, image, from..range.end, shift),
        }
    }
    Ok(())
}

/// Copies a range through a buffer.
fn plain(source: &File, image: &File, range: std::ops::Range<u64>, shift: u64) -> Result<(), Failed> {
    let mut buffer = vec![0; BUFFER];
    let mut position = range.start;
    while position < range.end {
        let length = usize::try_from(range.end - position).unwrap_or(BUFFER).min(BUFFER);
        let count = match source.read_at(&mut buffer[..length], position) {
            Ok(0) => return Err(Failed::Short),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failed::Read(error)),
        };
        image.write_all_at(&buffer[..count], shift + position).map_err(Failed::Write)?;
        position += u64::try_from(count).expect("no more than the buffer");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use rustix::fs::{CWD, mknodat};

    use super::*;
    use crate::erofs::Layout;
    use crate::tree::walk;

    const LARGE: usize = 3 << 20;

    /// Lays out a root with the file `f` of `size` bytes, lets `change` loose on it and copies.
    fn copied(size: usize, change: impl FnOnce(&Path)) -> Result<Vec<u8>, CopyError> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), vec![7; size]).unwrap();
        let walked = walk(directory.path()).unwrap();
        let layout = Layout::plan(&walked.tree).unwrap();
        change(&directory.path().join("f"));
        let image = tempfile::NamedTempFile::new().unwrap();
        copy(&walked, &layout.extents, image.as_file())?;
        let bytes = fs::read(image.path()).unwrap();
        Ok(bytes[usize::try_from(layout.extents[0].image_offset).unwrap()..].to_vec())
    }

    #[test]
    fn data_arrives_small_and_large() {
        for size in [1, BLOCK_SIZE, GATHERED_MAX, GATHERED_MAX + 1, LARGE] {
            assert!(copied(size, |_| {}).unwrap() == vec![7; size], "{size}");
        }
    }

    #[test]
    fn a_file_that_changed_is_an_error() {
        let changes: [fn(&Path); 6] = [
            |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(1000).unwrap(),
            |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(LARGE as u64 * 2).unwrap(),
            |file| fs::remove_file(file).unwrap(),
            |file| {
                fs::remove_file(file).unwrap();
                symlink("/etc/passwd", file).unwrap();
            },
            |file| {
                fs::remove_file(file).unwrap();
                mknodat(CWD, file, FileType::Fifo, Mode::RUSR, 0).unwrap();
            },
            |file| {
                fs::rename(file, file.with_extension("old")).unwrap();
                fs::write(file, vec![8; LARGE]).unwrap();
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let error = copied(LARGE, change).unwrap_err();
            assert!(
                matches!(&error, CopyError::Changed { path } if path.as_os_str() == "f"),
                "{index}: {error}"
            );
        }
    }

    #[test]
    fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
        let image = tempfile::tempfile().unwrap();
        for length in [100, LARGE as u64] {
            let source = tempfile::tempfile().unwrap();
            source.set_len(50).unwrap();
            let extent = Extent { image_offset: 0, length, inode: crate::tree::InodeId::ROOT };
            let mut gathered = Gathered { image: &image, start: 0, bytes: Vec::new() };
            assert!(matches!(gathered.add(&source, 0, 100), Err(Failed::Short)));
            assert!(matches!(large(&source, &image, &extent), Err(Failed::Short)));
            assert!(matches!(range(&source, &image, 0..length, 0), Err(Failed::Short)));
            assert!(matches!(plain(&source, &image, 0..length, 0), Err(Failed::Short)));
        }
    }

    #[test]
    fn holes_stay_holes() {
        let source = tempfile::tempfile().unwrap();
        let length = 1 << 30;
        source.set_len(length).unwrap();
        source.write_all_at(b"middle", length / 2).unwrap();
        let image = tempfile::tempfile().unwrap();
        image.set_len(length + 4096).unwrap();
        let extent = Extent { image_offset: 4096, length, inode: crate::tree::InodeId::ROOT };
        assert!(large(&source, &image, &extent).is_ok());
        let mut bytes = [0; 6];
        image.read_exact_at(&mut bytes, 4096 + length / 2).unwrap();
        assert_eq!(&bytes, b"middle");
        assert!(image.metadata().unwrap().blocks() * 512 <= 1 << 20);
    }
}
