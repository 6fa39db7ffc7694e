//! What a path leads to while a layer is made: this layer over all those below it, as an overlay would show them.
//!
//! In: paths relative to the root. Out: what is there, and in which layer. Nothing is followed by the kernel: links are read
//! and resolved here, within the root. It must never change anything.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, open, openat2, readlinkat,
};
use rustix::io::Errno;

use super::error::{UnpackError, host};
use super::limits;

/// overlayfs.rst, "whiteouts and opaque directories".
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
/// What it holds on an opaque directory.
pub(super) const IS_OPAQUE: &[u8] = b"y";
/// openat2 says EAGAIN when a rename happened meanwhile.
const RETRIES: usize = 16;

/// A layer in the making and those below.
pub(super) struct View {
    pub(super) own: OwnedFd,
    /// The highest first.
    below: Vec<OwnedFd>,
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// In this layer.
    Here(Stat),
    /// In one below; open as `O_PATH`.
    Below(OwnedFd, Stat),
}

impl View {
    /// Of the directory `own`, over `below`, the lowest first.
    pub(super) fn new(own: &Path, below: &[PathBuf]) -> Result<Self, UnpackError> {
        let directory = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open(path, flags, Mode::empty()).map_err(host("open the layer", path))
        };
        Ok(Self {
            own: directory(own)?,
            below: below.iter().rev().map(|path| directory(path)).collect::<Result<_, _>>()?,
        })
    }

    /// What `path`, whose parents are directories of the merged view, leads to.
    pub(super) fn find(&self, path: &Path) -> Result<Found, UnpackError> {
        let fail = || host("look at", path);
        if let Some(there) = probe(self.own.as_fd(), path).map_err(fail())? {
            let stat = fstat(&there).map_err(fail())?;
            return Ok(if is_whiteout(&stat) { Found::Nothing } else { Found::Here(stat) });
        }
        if hides(self.own.as_fd(), path).map_err(fail())? { Ok(Found::Nothing) } else { self.below(path) }
    }

    /// What the layers below have at `path`.
    pub(super) fn below(&self, path: &Path) -> Result<Found, UnpackError> {
        let fail = || host("look at", path);
        for layer in &self.below {
            if let Some(there) = probe(layer.as_fd(), path).map_err(fail())? {
                let stat = fstat(&there).map_err(fail())?;
                return Ok(if is_whiteout(&stat) { Found::Nothing } else { Found::Below(there, stat) });
            }
            if hides(layer.as_fd(), path).map_err(fail())? {
                break;
            }
        }
        Ok(Found::Nothing)
    }

    /// Names in the root of the layers below, of whatever is there.
    pub(super) fn names_below(&self) -> Result<Vec<OsString>, UnpackError> {
        let mut names = Vec::new();
        for layer in &self.below {
            for entry in std::fs::read_dir(by_descriptor(layer.as_fd())).map_err(host("read", "/"))? {
                names.push(entry.map_err(host("read", "/"))?.file_name());
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The directory that `path` leads to, links followed: a path without links, of which the last names may be missing.
    pub(super) fn resolve(&self, path: &Path) -> Result<PathBuf, UnpackError> {
        let parts = |path: &Path| -> Vec<OsString> {
            path.components()
                .filter_map(|part| match part {
                    Component::Normal(name) => Some(name.to_owned()),
                    Component::ParentDir => Some("..".into()),
                    Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
                })
                .collect()
        };
        let wrong = |what| UnpackError::Path { path: path.to_owned(), what };
        let mut rest: VecDeque<OsString> = parts(path).into();
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            if real.as_os_str().len() > limits::PATH || real.components().count() > limits::DEPTH {
                return Err(wrong("leads to one that is too long"));
            }
            let (layer, stat) = match self.find(&real)? {
                Found::Nothing => continue,
                Found::Here(stat) => (None, stat),
                Found::Below(there, stat) => (Some(there), stat),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink => {
                    links += 1;
                    if links > limits::LINKS {
                        return Err(wrong("leads through too many links"));
                    }
                    let fail = host("read the link", &*real);
                    let there = match layer {
                        Some(there) => there,
                        None => probe(self.own.as_fd(), &real)
                            .and_then(|there| there.ok_or(Errno::NOENT))
                            .map_err(host("read the link", &*real))?,
                    };
                    let target = readlinkat(there, "", Vec::new()).map_err(fail)?;
                    let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                    if target.is_absolute() {
                        real.clear();
                    } else {
                        real.pop();
                    }
                    for part in parts(&target).into_iter().rev() {
                        rest.push_front(part);
                    }
                    if rest.len() > limits::DEPTH {
                        return Err(wrong("leads to one that is too deep"));
                    }
                }
                _ => return Err(wrong("leads through something that is no directory")),
            }
        }
        Ok(real)
    }
}

/// What `layer` has at `path`, opened as `O_PATH`; no link on the way is followed.
pub(super) fn probe(layer: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match open_beneath(layer, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// `path` in `layer`, and nowhere else.
pub(super) fn open_beneath(layer: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let only = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..RETRIES {
        match openat2(layer, path, flags | OFlags::CLOEXEC, Mode::empty(), only) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Whether `layer`, which has nothing at `path`, hides what those below it have there.
fn hides(layer: BorrowedFd<'_>, path: &Path) -> Result<bool, Errno> {
    for above in path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()) {
        if let Some(there) = probe(layer, above)?
            && (FileType::from_raw_mode(fstat(&there)?.st_mode) != FileType::Directory || is_opaque(&there)?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The kernel does not ask it of a layer's root.
fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 2];
    let directory = rustix::fs::openat(
        directory,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    match fgetxattr(&directory, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == IS_OPAQUE),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// A path to what is open.
pub(super) fn by_descriptor(there: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", there.as_raw_fd()))
}

/// Opens what was found for reading.
pub(super) fn reopen(there: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(CWD, by_descriptor(there), flags, Mode::empty())?))
}
