//! The layer in the making: what each entry does to it.
//!
//! In: entries with their places, in any order that an archive may have. Out: a directory as overlayfs has its lower layers.
//! All that is done is done beneath the layer's own directory, in directories that were opened without following links.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, linkat, makedev, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::archive::{Entry, Metadata, Time, What};
use super::attributes;
use super::error::{UnpackError, host};
use super::path::{self, Place};
use super::view::{self, Found, View};

/// What a directory has that nothing is said of.
const UNSAID: Metadata =
    Metadata { uid: 0, gid: 0, mode: 0o755, mtime: Time { seconds: 0, nanoseconds: 0 }, xattrs: Vec::new() };

/// Gives data of the current entry, as `read` does.
pub(super) type Data<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize, UnpackError>;

/// A layer.
pub(super) struct Tree {
    view: View,
    /// When directories are to have been changed last: set when nothing is made in them any more.
    times: BTreeMap<PathBuf, Time>,
    /// What is here only because a hard link led to a file of a layer below.
    copied: HashSet<PathBuf>,
    /// The last parent, as named, as resolved, and open: entries of a directory follow each other.
    last: Option<(PathBuf, Rc<Parent>)>,
    /// Nothing shows of what is below.
    opaque_root: bool,
    buffer: Vec<u8>,
}

/// An open directory of the layer.
struct Parent {
    open: OwnedFd,
    /// From the layer's root, without links.
    real: PathBuf,
}

impl Tree {
    /// In the empty directory `own`.
    pub(super) fn new(own: &Path, below: &[PathBuf]) -> Result<Self, UnpackError> {
        let mut tree = Self {
            view: View::new(own, below)?,
            times: BTreeMap::new(),
            copied: HashSet::new(),
            last: None,
            opaque_root: false,
            buffer: vec![0; 128 << 10],
        };
        let root = match tree.view.below(Path::new(""))? {
            Found::Below(there, stat) => {
                attributes::of_file(there.as_fd(), &stat).map_err(host("look at", "/"))?
            }
            Found::Nothing | Found::Here(_) => UNSAID,
        };
        tree.root(&root)?;
        Ok(tree)
    }

    /// Does what `entry` says.
    pub(super) fn add(&mut self, entry: &Entry, data: Data<'_>) -> Result<(), UnpackError> {
        match path::place(&entry.path)? {
            Place::Ignored => Ok(()),
            Place::Root if entry.what == What::Directory => self.root(&entry.metadata),
            Place::Root => Err(UnpackError::Entry { path: "/".into(), what: "is no directory" }),
            Place::Named { parent, name } => {
                // A hard link's target first: its copy may have to be made in the same directory.
                let target = match &entry.what {
                    What::HardLink(target) => Some(self.target(target)?),
                    _ => None,
                };
                self.with_parent(&parent, |tree, parent| {
                    let name = OsStr::from_bytes(&name);
                    match &target {
                        Some((directory, target)) => tree.link(parent, name, directory, target),
                        None => tree.make(parent, name, entry, data),
                    }
                })
            }
            Place::Whiteout { parent, name } => self.whiteout(&parent, OsStr::from_bytes(&name)),
            Place::Opaque { directory } if directory.as_os_str().is_empty() => {
                self.opaque_root = true;
                Ok(())
            }
            Place::Opaque { directory } => self.with_parent(&directory, |_, parent| make_opaque(parent)),
        }
    }

    /// What can be done only when all entries are there.
    pub(super) fn finish(mut self) -> Result<(), UnpackError> {
        if self.opaque_root {
            for name in self.view.names_below()? {
                self.whiteout(Path::new(""), &name)?;
            }
        }
        // What is deep first: nothing below is opened for writing, but a reader may look.
        for (path, time) in self.times.iter().rev() {
            attributes::times_of_directory(self.view.own.as_fd(), path, *time)
                .map_err(host("set the times of", &**path))?;
        }
        Ok(())
    }

    fn root(&mut self, metadata: &Metadata) -> Result<(), UnpackError> {
        let root = self.open(Path::new(""))?;
        attributes::on_file(root.as_fd(), metadata, false).map_err(host("set the attributes of", "/"))?;
        self.times.insert(PathBuf::new(), metadata.mtime);
        Ok(())
    }

    fn make(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        entry: &Entry,
        data: Data<'_>,
    ) -> Result<(), UnpackError> {
        let path = parent.real.join(name);
        let fail = |what| host(what, &*path);
        let at = parent.open.as_fd();
        if entry.what == What::Directory {
            self.directory(parent, name, &entry.metadata)?;
            self.times.insert(path, entry.metadata.mtime);
            return Ok(());
        }
        self.clear(parent, name)?;
        let node = |kind, device: Dev| {
            mknodat(at, name, kind, Mode::from_raw_mode(0o600), device).map_err(host("make", &*path))
        };
        match &entry.what {
            What::Regular => {
                let file = new_file(parent, name)?;
                self.fill(&file, entry, data, &path)?;
                return attributes::on_file(file.as_fd(), &entry.metadata, true)
                    .map_err(fail("set the attributes of"));
            }
            What::Symlink(target) => {
                symlinkat(path::link(target)?, at, name).map_err(fail("make"))?;
            }
            What::Fifo => node(FileType::Fifo, 0)?,
            // It would be a whiteout, and those have names of their own.
            What::Character { major: 0, minor: 0 } => {
                return Err(UnpackError::Entry { path, what: "is a character device 0:0" });
            }
            What::Character { major, minor } => node(FileType::CharacterDevice, makedev(*major, *minor))?,
            What::Block { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor))?,
            What::Directory | What::HardLink(_) => {}
        }
        let link = matches!(entry.what, What::Symlink(_));
        attributes::on_name(at, name, &entry.metadata, link).map_err(fail("set the attributes of"))
    }

    fn fill(
        &mut self,
        mut file: &File,
        entry: &Entry,
        data: Data<'_>,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let fail = || host("write", path);
        for (offset, length) in &entry.extents {
            file.seek(SeekFrom::Start(*offset)).map_err(fail())?;
            let mut left = *length;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let count = data(&mut self.buffer[..most])?;
                if count == 0 {
                    return Err(UnpackError::Entry {
                        path: path.to_owned(),
                        what: "has less data than it says",
                    });
                }
                file.write_all(&self.buffer[..count]).map_err(fail())?;
                left -= count as u64;
            }
        }
        file.set_len(entry.size).map_err(fail())
    }

    /// A directory, new or over what is there; what it has of its own stays.
    fn directory(&mut self, parent: &Parent, name: &OsStr, metadata: &Metadata) -> Result<(), UnpackError> {
        let path = parent.real.join(name);
        let there = here(parent, name)?;
        let replaced = there.is_some_and(|kind| kind != FileType::Directory);
        if replaced {
            self.clear(parent, name)?;
        }
        if there != Some(FileType::Directory) {
            mkdirat(&parent.open, name, Mode::from_raw_mode(0o700)).map_err(host("make", &*path))?;
        }
        attributes::on_directory(parent.open.as_fd(), name, metadata)
            .map_err(host("set the attributes of", &*path))?;
        // What is below the file, or the whiteout, that was here is no more.
        if replaced { make_opaque(&self.parent_at(path)?) } else { Ok(()) }
    }

    /// The directory `named` and a name in it that a hard link leads to: a file of this layer, if need be a copy of one below.
    fn target(&mut self, named: &[u8]) -> Result<(Parent, Vec<u8>), UnpackError> {
        let (directory, name) = path::target(named)?;
        let bad = |what| UnpackError::Entry { path: Path::new(OsStr::from_bytes(named)).to_owned(), what };
        let path = self.view.resolve(&directory)?.join(OsStr::from_bytes(&name));
        match self.view.find(&path)? {
            Found::Nothing => return Err(bad("is what a hard link leads to, but is not there")),
            Found::Here(stat) | Found::Below(_, stat) if attributes::is_directory(&stat) => {
                return Err(bad("is what a hard link leads to, but is a directory"));
            }
            Found::Here(_) => {}
            Found::Below(there, stat) => {
                let metadata = attributes::of_file(there.as_fd(), &stat).map_err(host("look at", &*path))?;
                self.with_parent(&directory, |tree, parent| {
                    tree.copy(parent, OsStr::from_bytes(&name), &there, &metadata)
                })?;
                self.copied.insert(path.clone());
            }
        }
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok((self.parent_at(directory)?, name))
    }

    /// Brings a file of a layer below into this one.
    fn copy(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        there: &OwnedFd,
        metadata: &Metadata,
    ) -> Result<(), UnpackError> {
        let path = parent.real.join(name);
        let fail = |what| host(what, &*path);
        let stat = fstat(there).map_err(fail("look at"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let mut from = view::reopen(there.as_fd()).map_err(host("open", &*path))?;
                let mut file = new_file(parent, name)?;
                io::copy(&mut from, &mut file).map_err(host("copy", &*path))?;
                return attributes::on_file(file.as_fd(), metadata, true)
                    .map_err(fail("set the attributes of"));
            }
            FileType::Symlink => {
                let target = readlinkat(there, "", Vec::new()).map_err(fail("read the link"))?;
                symlinkat(target, &parent.open, name).map_err(fail("make"))?;
            }
            _ => {
                let mode = Mode::from_raw_mode(0o600);
                mknodat(&parent.open, name, kind, mode, stat.st_rdev).map_err(fail("make"))?;
            }
        }
        attributes::on_name(parent.open.as_fd(), name, metadata, kind == FileType::Symlink)
            .map_err(fail("set the attributes of"))
    }

    fn link(
        &mut self,
        parent: &Parent,
        name: &OsStr,
        directory: &Parent,
        target: &[u8],
    ) -> Result<(), UnpackError> {
        let path = parent.real.join(name);
        let target = OsStr::from_bytes(target);
        if path == directory.real.join(target) {
            return Err(UnpackError::Entry { path, what: "is a hard link to itself" });
        }
        self.clear(parent, name)?;
        linkat(&directory.open, target, &parent.open, name, AtFlags::empty()).map_err(host("link", path))
    }

    /// `name` in `directory` is gone, if a layer below has it. What this layer has under that name stays.
    fn whiteout(&mut self, directory: &Path, name: &OsStr) -> Result<(), UnpackError> {
        let path = self.view.resolve(directory)?.join(name);
        if self.copied.remove(&path) {
            self.with_parent(directory, |tree, parent| tree.clear(parent, name))?;
        }
        if matches!(self.view.below(&path)?, Found::Nothing) {
            return Ok(());
        }
        self.with_parent(directory, |tree, parent| match here(parent, name)? {
            Some(FileType::Directory) => make_opaque(&tree.parent_at(path)?),
            Some(_) => Ok(()),
            None => {
                let mode = Mode::from_raw_mode(0);
                mknodat(&parent.open, name, FileType::CharacterDevice, mode, 0).map_err(host("hide", path))
            }
        })
    }

    /// Does something in the directory that `path` leads to, made if it is not in this layer.
    fn with_parent(
        &mut self,
        path: &Path,
        act: impl FnOnce(&mut Self, &Parent) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let parent = match &self.last {
            Some((named, parent)) if named == path => Rc::clone(parent),
            _ => {
                let real = self.view.resolve(path)?;
                self.ensure(&real)?;
                let parent = Rc::new(self.parent_at(real)?);
                // What removes something forgets it, since it may have been on the way.
                self.last = Some((path.to_owned(), Rc::clone(&parent)));
                parent
            }
        };
        act(self, &parent)
    }

    /// Sees to it that all of `real`, which has no links in it, is a directory of this layer: as the layers below have it.
    fn ensure(&mut self, real: &Path) -> Result<(), UnpackError> {
        let mut parent = self.parent_at(PathBuf::new())?;
        for name in real {
            let path = parent.real.join(name);
            let there = here(&parent, name)?;
            if there != Some(FileType::Directory) {
                let metadata = match (there, self.view.find(&path)?) {
                    (None, Found::Below(open, stat)) => {
                        let metadata =
                            attributes::of_file(open.as_fd(), &stat).map_err(host("look at", &*path))?;
                        self.times.insert(path.clone(), metadata.mtime);
                        metadata
                    }
                    _ => UNSAID,
                };
                self.directory(&parent, name, &metadata)?;
            }
            parent = self.parent_at(path)?;
        }
        Ok(())
    }

    /// Takes away what this layer has under a name.
    fn clear(&mut self, parent: &Parent, name: &OsStr) -> Result<(), UnpackError> {
        let Some(kind) = here(parent, name)? else { return Ok(()) };
        let path = parent.real.join(name);
        self.last = None;
        self.copied.remove(&path);
        if kind == FileType::Directory {
            self.times.retain(|directory, _| !directory.starts_with(&path));
            let whole = view::by_descriptor(parent.open.as_fd()).join(name);
            return fs::remove_dir_all(whole).map_err(host("remove", path));
        }
        unlinkat(&parent.open, name, AtFlags::empty()).map_err(host("remove", path))
    }

    fn parent_at(&self, real: PathBuf) -> Result<Parent, UnpackError> {
        Ok(Parent { open: self.open(&real)?, real })
    }

    fn open(&self, real: &Path) -> Result<OwnedFd, UnpackError> {
        view::open_beneath(self.view.own.as_fd(), real, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(host("open", real))
    }
}

/// What kind of file the layer itself has there.
fn here(parent: &Parent, name: &OsStr) -> Result<Option<FileType>, UnpackError> {
    match statat(&parent.open, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(host("look at", parent.real.join(name))(errno)),
    }
}

fn new_file(parent: &Parent, name: &OsStr) -> Result<File, UnpackError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&parent.open, name, flags, Mode::from_raw_mode(0o600));
    file.map(File::from).map_err(host("make", parent.real.join(name)))
}

fn make_opaque(directory: &Parent) -> Result<(), UnpackError> {
    fsetxattr(&directory.open, view::OPAQUE, view::IS_OPAQUE, XattrFlags::empty())
        .map_err(host("make opaque", &*directory.real))
}
