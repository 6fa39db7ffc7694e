//! The root on the host: directories opened beneath it, and names taken away.
//!
//! In: paths and names that the guest chose. Out: descriptors of directories that are in the root, in the root's own mount, and
//! reached without following any link; everything else is done with one name in such a directory, and calls that do not
//! follow it. It must never know the scratch disk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, open, openat2, statat, unlinkat};
use rustix::io::Errno;

use super::TEMPORARY;
use super::error::WritebackError;

/// To a directory, to read its names.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory that is the container's `/`.
#[derive(Debug)]
pub(super) struct Root {
    descriptor: OwnedFd,
    /// How deep a tree may be that is taken away: each level holds a descriptor meanwhile.
    depth: usize,
}

/// The error of `action` on `path`.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(Errno) -> WritebackError {
    move |errno| match errno {
        // Another mount below, or a name that is one's place.
        Errno::XDEV | Errno::BUSY => WritebackError::Mounted { path: path.to_owned() },
        _ => WritebackError::Host { action, path: path.to_owned(), source: errno.into() },
    }
}

impl Root {
    /// Opens the host's directory `path`; this path is trusted.
    pub(super) fn open(path: &Path, depth: usize) -> Result<Self, WritebackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = open(path, flags, Mode::empty()).map_err(|errno| WritebackError::Host {
            action: "open",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self { descriptor, depth })
    }

    /// For what concerns the whole file system.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// A directory by its path from the root.
    pub(super) fn directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        beneath(&self.descriptor, if path.as_os_str().is_empty() { Path::new(".") } else { path })
    }

    /// Takes away whatever has this name; nothing there is fine. A directory goes with all that is in it, but not with what is
    /// mounted in it.
    pub(super) fn remove(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
    ) -> Result<(), WritebackError> {
        match kind(directory, name) {
            Ok(None) => Ok(()),
            Ok(Some(FileType::Directory)) => self.remove_tree(directory, name, path, 0),
            Ok(Some(_)) => gone(unlinkat(directory, name, AtFlags::empty())).map_err(failed("remove", path)),
            Err(errno) => Err(failed("look at", path)(errno)),
        }
    }

    fn remove_tree(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<(), WritebackError> {
        if depth > self.depth {
            return Err(WritebackError::Limit { what: "directories in a path", limit: self.depth });
        }
        let inner =
            beneath(directory, Path::new(std::ffi::OsStr::from_bytes(name))).map_err(failed("open", path))?;
        for child in list(inner.as_fd()).map_err(failed("list", path))? {
            let path = path.join(std::ffi::OsStr::from_bytes(&child));
            match kind(inner.as_fd(), &child).map_err(failed("look at", &path))? {
                Some(FileType::Directory) => self.remove_tree(inner.as_fd(), &child, &path, depth + 1)?,
                Some(_) => {
                    gone(unlinkat(&inner, &*child, AtFlags::empty())).map_err(failed("remove", &path))?;
                }
                None => {}
            }
        }
        gone(unlinkat(directory, name, AtFlags::REMOVEDIR)).map_err(failed("remove", path))
    }

    /// Takes away one name, of a directory only if nothing is left in it; true if it was there and is no more.
    pub(super) fn remove_one(&self, path: &Path) -> Result<bool, WritebackError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let directory = match self.directory(parent) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => return Err(failed("open", parent)(errno)),
        };
        let flags = match kind(directory.as_fd(), name.as_bytes()) {
            Ok(None) => return Ok(false),
            Ok(Some(FileType::Directory)) => {
                if let Ok(inner) = beneath(&directory, Path::new(name)) {
                    sweep(inner.as_fd(), path)?;
                }
                AtFlags::REMOVEDIR
            }
            Ok(Some(_)) => AtFlags::empty(),
            Err(errno) => return Err(failed("look at", path)(errno)),
        };
        match unlinkat(&directory, name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(failed("remove", path)(errno)),
        }
    }
}

/// Takes away what a killed write-back left in a directory.
pub(super) fn sweep(directory: BorrowedFd<'_>, path: &Path) -> Result<(), WritebackError> {
    gone(unlinkat(directory, TEMPORARY, AtFlags::empty())).map_err(failed("clean up", path))
}

/// What a name is, without following it; none if it is not there.
pub(super) fn kind(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory, without `.` and `..`.
pub(super) fn list(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// By which calls that take no descriptor reach a name in a directory.
pub(super) fn by_descriptor(directory: BorrowedFd<'_>, name: &str) -> PathBuf {
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    PathBuf::from(format!("/proc/self/fd/{number}/{name}"))
}

fn beneath(directory: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(directory, path, DIRECTORY, Mode::empty(), resolve)
}

/// That something is not there to be removed is as good.
fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// chmod(2) of what was opened without following anything and with `O_PATH`, which fchmod(2) does not take.
pub(super) fn set_mode_by_descriptor(file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    rustix::fs::chmodat(CWD, format!("/proc/self/fd/{number}"), mode, AtFlags::empty())
}
