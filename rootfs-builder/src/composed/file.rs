//! A file of a layer: its path, what it must be, and how it is opened.
//!
//! In: a record and a layer's directory. Out: the very file that was composed, open for reading, or an error.
//! It must never follow a symbolic link, leave the layer, or wait for a pipe.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx};
use rustix::io::Errno;

use super::spec::{NO_CTIME, Record};
use crate::tree::{NAME_MAX, PATH_MAX, Time};

/// A layer's file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Opening it, or asking what it is.
    #[error("Cannot open {path:?} in its layer")]
    Open {
        /// Relative to the layer.
        path: CString,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is another file by now, or there is none.
    #[error("{path:?} is not what it was when the root was composed: nothing may write to a layer in use")]
    Changed {
        /// Relative to the layer.
        path: CString,
    },
}

/// A file of a layer whose record holds no contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Index of its layer, below [`Composition::layers`](super::Composition::layers).
    pub layer: u16,
    /// Relative to the layer's directory: names of 1 to 255 bytes with a slash between them, none of them `.` or `..`.
    pub path: CString,
    /// `stx_size`.
    pub size: u64,
    /// `stx_dev_major`, `stx_dev_minor`.
    pub device: (u32, u32),
    /// `stx_ino`.
    pub inode: u64,
    /// `stx_mtime`.
    pub mtime: Time,
    /// `stx_ctime`; none where it may change without the data doing so.
    pub ctime: Option<Time>,
}

impl Checked {
    pub(super) fn new(path: CString, record: &Record) -> Self {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        let ctime = record.ctime_nanoseconds.get();
        Self {
            layer: record.layer.get(),
            path,
            size: record.length.get(),
            device: (record.device_major.get(), record.device_minor.get()),
            inode: record.inode.get(),
            mtime: time(record.mtime_seconds.get(), record.mtime_nanoseconds.get()),
            ctime: (ctime != NO_CTIME).then(|| time(record.ctime_seconds.get(), ctime)),
        }
    }

    /// Opens the file in `layer`, the directory of its layer, and sees that it is the one that was composed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, layer: impl AsFd) -> Result<File, OpenError> {
        // A FIFO in the file's place must not make us wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let failed = |source: Errno| OpenError::Open { path: self.path.clone(), source: source.into() };
        let file = match openat2(layer, &self.path, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO) => {
                return Err(OpenError::Changed { path: self.path.clone() });
            }
            Err(error) => return Err(failed(error)),
        };
        let stat = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(failed)?;
        if self.is(&stat) { Ok(file) } else { Err(OpenError::Changed { path: self.path.clone() }) }
    }

    /// Whether the open `file` still is as it was when it was composed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn is_unchanged(&self, file: &File) -> io::Result<bool> {
        Ok(self.is(&statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
    }

    /// Whether `stat` is of the file that was composed.
    fn is(&self, stat: &Statx) -> bool {
        let time =
            |time: rustix::fs::StatxTimestamp| Time { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
        FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
            && self.size == stat.stx_size
            && self.device == (stat.stx_dev_major, stat.stx_dev_minor)
            && self.inode == stat.stx_ino
            && self.mtime == time(stat.stx_mtime)
            && self.ctime.is_none_or(|ctime| ctime == time(stat.stx_ctime))
    }
}

/// Whether a path is relative and stays where it starts.
pub(super) fn lawful(path: &[u8]) -> bool {
    (1..=PATH_MAX).contains(&path.len())
        && !path.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|name| (1..=NAME_MAX).contains(&name.len()) && name != b"." && name != b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_its_layer() {
        for good in [&b"a"[..], b"a/b", b"...", b".a/b.", b"\xff\n/ ", &[b'n'; 255]] {
            assert!(lawful(good), "{good:?}");
        }
        let long = [b"d/".repeat(2048), b"d".to_vec()].concat();
        let bad = [
            &b""[..],
            b"/",
            b"/a",
            b"a/",
            b"a//b",
            b".",
            b"..",
            b"a/..",
            b"../a",
            b"a/./b",
            b"a\0b",
            &[b'n'; 256],
            &long,
        ];
        for bad in bad {
            assert!(!lawful(bad), "{bad:?}");
        }
    }
}
