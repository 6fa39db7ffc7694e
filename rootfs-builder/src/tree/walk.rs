//! Reads a directory of the host into a [`Tree`].
//!
//! In: a path. Out: the tree, the root's descriptor to read the files' data through, and the mount points met below it.
//! The content is hostile and may be changing: every name is looked up alone in an open directory, and no symbolic link is
//! ever followed. Mounts below the root are entered, as a recursive bind mount would, and `st_dev` means nothing: on
//! overlayfs it differs from file to file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Statx, StatxAttributes, StatxFlags, openat, readlinkat,
    statx,
};
use rustix::io::Errno;

use super::xattrs::Reader;
use super::{Device, Identity, Inode, InodeId, Kind, NAMES_MAX, OwnDirectory, Time, Tree, TreeError};

/// How much of a directory is listed at once, in bytes.
const LISTING: usize = 64 << 10;

/// A directory could not be read as a root.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The root itself.
    #[error("Cannot open the root {path:?}: check that it exists and is a directory")]
    Root {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory below it.
    #[error("Cannot list the directory {path:?} of the root")]
    List {
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file's metadata.
    #[error("Cannot read the metadata of {path:?} in the root")]
    Metadata {
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file's extended attributes.
    #[error("Cannot read the extended attributes of {path:?} in the root: check that /proc is mounted")]
    Xattrs {
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory was replaced.
    #[error(
        "The directory {path:?} of the root changed while it was read: nothing may write there meanwhile"
    )]
    Changed {
        /// Relative to the root.
        path: PathBuf,
    },
    /// What was read makes no tree.
    #[error("The directory {directory:?} of the root cannot be part of an image")]
    Tree {
        /// Relative to the root.
        directory: PathBuf,
        /// What is wrong.
        source: TreeError,
    },
}

/// A root that was read.
#[derive(Debug)]
pub struct Walked {
    /// All its names and metadata.
    pub tree: Tree,
    /// The root directory, open.
    pub root: OwnedFd,
    /// Where other file systems are mounted below it. What they hold is in `tree` too.
    pub mount_points: Vec<InodeId>,
}

/// What a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A root: what overlayfs keeps in extended attributes is left out.
    Root,
    /// A layer of an overlay: with that, for [`merge`](super::merge).
    Layer,
}

/// Reads `root`.
///
/// # Errors
/// [`WalkError`].
pub fn walk(root: &Path) -> Result<Walked, WalkError> {
    walk_as(Content::Root, root, None)
}

/// Reads `root`, a layer of an overlay.
///
/// # Errors
/// [`WalkError`].
pub fn walk_layer(root: &Path) -> Result<Walked, WalkError> {
    walk_as(Content::Layer, root, None)
}

/// Reads `root`. With a working directory of its own, a thread needs half the time.
///
/// # Errors
/// [`WalkError`].
pub fn walk_as(content: Content, root: &Path, own: Option<&OwnDirectory>) -> Result<Walked, WalkError> {
    let failed = |source: Errno| WalkError::Root { path: root.to_owned(), source: source.into() };
    // The caller's own path may hold symbolic links; what it leads to is the root.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, root, flags, Mode::empty()).map_err(failed)?;
    let mut xattrs = Reader::new(content == Content::Layer, own);
    xattrs.enter(fd.as_fd());
    let mut top =
        inode(&look(fd.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(failed)?, Kind::Directory(vec![]));
    top.xattrs = xattrs.read_entered(fd.as_fd()).map_err(failed)?;

    let mut walker = Walker {
        tree: Tree::new(top),
        xattrs,
        links: HashMap::new(),
        mount_points: Vec::new(),
        listing: Vec::with_capacity(LISTING),
    };
    walker.descend(fd.as_fd())?;
    Ok(Walked { tree: walker.tree, root: fd, mount_points: walker.mount_points })
}

/// A device and an inode on it.
type Place = ((u32, u32), u64);

struct Walker<'a> {
    tree: Tree,
    xattrs: Reader<'a>,
    /// Files with several names, by where they are on the host.
    links: HashMap<Place, InodeId>,
    mount_points: Vec<InodeId>,
    listing: Vec<u8>,
}

/// A directory still open because some of its subdirectories have not been entered; the next one is the last.
struct Open {
    fd: OwnedFd,
    subdirectories: Vec<(CString, InodeId)>,
}

impl Walker<'_> {
    /// Depth first and without recursion. A directory is closed before its last subdirectory is read, so a chain of
    /// directories takes two descriptors however long it is.
    fn descend(&mut self, root: BorrowedFd<'_>) -> Result<(), WalkError> {
        let copy = root.try_clone_to_owned();
        let fd = copy.map_err(|source| WalkError::List { path: PathBuf::new(), source })?;
        let subdirectories = self.directory(fd.as_fd(), InodeId::ROOT)?;
        let mut stack = vec![Open { fd, subdirectories }];
        while let Some(mut open) = stack.pop() {
            let Some((name, id)) = open.subdirectories.pop() else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match openat(&open.fd, &name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    return Err(WalkError::Changed { path: self.tree.path(id) });
                }
                Err(error) => return Err(WalkError::List { path: self.tree.path(id), source: error.into() }),
            };
            if !open.subdirectories.is_empty() {
                stack.push(open);
            }
            let subdirectories = self.directory(fd.as_fd(), id)?;
            stack.push(Open { fd, subdirectories });
        }
        Ok(())
    }

    /// Adds what is in the directory `id`, open as `fd`, and returns its subdirectories.
    fn directory(&mut self, fd: BorrowedFd<'_>, id: InodeId) -> Result<Vec<(CString, InodeId)>, WalkError> {
        let names = self.names(fd).map_err(|error| match error {
            // It was removed after it was opened.
            Errno::NOENT => WalkError::Changed { path: self.tree.path(id) },
            _ => WalkError::List { path: self.tree.path(id), source: error.into() },
        })?;
        self.xattrs.enter(fd);
        let mut subdirectories = Vec::new();
        for name in names {
            if let Some(child) = self.child(fd, id, &name)? {
                subdirectories.push((name, child));
            }
        }
        subdirectories.reverse();
        Ok(subdirectories)
    }

    /// The names in a directory, sorted by their bytes; no more than a tree can hold, which will refuse them.
    fn names(&mut self, fd: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        self.listing.clear();
        let buffer: &mut [MaybeUninit<u8>] = self.listing.spare_capacity_mut();
        let mut entries = RawDir::new(fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
            if names.len() > NAMES_MAX {
                break;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Adds one name; gives its id if it is a directory. A name that has vanished since it was listed never was.
    fn child(
        &mut self,
        fd: BorrowedFd<'_>,
        parent: InodeId,
        name: &CString,
    ) -> Result<Option<InodeId>, WalkError> {
        let path = |tree: &Tree| tree.path(parent).join(OsString::from_vec(name.as_bytes().to_vec()));
        let metadata = |source: Errno, tree: &Tree| match source {
            // It was removed, or something else took its place, since its kind was seen.
            Errno::NOENT | Errno::INVAL => WalkError::Changed { path: path(tree) },
            _ => WalkError::Metadata { path: path(tree), source: source.into() },
        };
        let stat = match look(fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(metadata(error, &self.tree)),
        };
        let kind = kind(&stat, fd, name).map_err(|error| metadata(error, &self.tree))?;
        let is_directory = matches!(kind, Kind::Directory(_));
        let mut inode = inode(&stat, kind);
        let refused = |source, tree: &Tree| WalkError::Tree { directory: tree.path(parent), source };

        let linked = !is_directory && stat.stx_nlink > 1;
        if linked && let Entry::Occupied(known) = self.links.entry(place(&inode)) {
            let known = *known.get();
            let added = self.tree.link(parent, name.as_bytes(), known);
            return added.map(|()| None).map_err(|source| refused(source, &self.tree));
        }
        inode.xattrs = self.xattrs.read(name.as_bytes()).map_err(|error| match error {
            // If the file is still there, then it is /proc that is not.
            Errno::NOENT if look(fd, name, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                WalkError::Changed { path: path(&self.tree) }
            }
            _ => WalkError::Xattrs { path: path(&self.tree), source: error.into() },
        })?;
        let place = place(&inode);
        let id =
            self.tree.add(parent, name.as_bytes(), inode).map_err(|source| refused(source, &self.tree))?;
        if linked {
            self.links.insert(place, id);
        }
        if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            self.mount_points.push(id);
        }
        Ok(is_directory.then_some(id))
    }
}

fn look(fd: BorrowedFd<'_>, name: &std::ffi::CStr, flags: AtFlags) -> Result<Statx, Errno> {
    statx(fd, name, flags, StatxFlags::BASIC_STATS)
}

fn kind(stat: &Statx, fd: BorrowedFd<'_>, name: &CString) -> Result<Kind, Errno> {
    let device = Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor };
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => Ok(Kind::Directory(Vec::new())),
        FileType::RegularFile => Ok(Kind::Regular(stat.stx_size)),
        FileType::Symlink => {
            let target = readlinkat(fd, name, Vec::new())?;
            Ok(Kind::Symlink(target.into_bytes().into()))
        }
        FileType::CharacterDevice => Ok(Kind::CharacterDevice(device)),
        FileType::BlockDevice => Ok(Kind::BlockDevice(device)),
        FileType::Fifo => Ok(Kind::Fifo),
        FileType::Socket => Ok(Kind::Socket),
        FileType::Unknown => Err(Errno::NOTSUP),
    }
}

fn inode(stat: &Statx, kind: Kind) -> Inode {
    Inode {
        kind,
        permissions: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: Time { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        xattrs: Vec::new(),
        identity: identity(stat),
    }
}

fn place(inode: &Inode) -> Place {
    (inode.identity.device, inode.identity.inode)
}

fn identity(stat: &Statx) -> Identity {
    Identity {
        layer: 0,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        ctime: Time { seconds: stat.stx_ctime.tv_sec, nanoseconds: stat.stx_ctime.tv_nsec },
        linked: stat.stx_nlink > 1,
    }
}
