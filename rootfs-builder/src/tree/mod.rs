//! A root as a tree in memory: all that an image's metadata needs, and none of the files' data.
//!
//! In: inodes and names, one by one, from [`walk`] or from another source of layers. Out: a tree whose names are lawful,
//! unique and sorted, and whose hard links share an inode. It must never know any disk format.

mod directory;
mod marks;
mod merge;
mod walk;
mod xattrs;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub use directory::OwnDirectory;
pub use marks::Marks;
pub use merge::{Keep, MergeError, merge};
pub use walk::{Content, WalkError, Walked, walk, walk_as, walk_layer};

/// `NAME_MAX` of limits.h.
pub const NAME_MAX: usize = 255;
/// `PATH_MAX` of limits.h, without the NUL. It bounds a tree's depth too.
pub const PATH_MAX: usize = 4095;
/// More names than any sane root has; a hostile one must not eat the host's memory.
pub const NAMES_MAX: usize = 16 << 20;
/// Bytes of all names, link targets and extended attributes together, for the same reason.
pub const BYTES_MAX: usize = 1 << 30;

/// Which inode of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(u32);

impl InodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// The position in [`Tree::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits fit in usize on every supported machine")
    }
}

/// A point in time: seconds since the epoch and nanoseconds below 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    /// Negative before 1970.
    pub seconds: i64,
    /// Always forward from `seconds`.
    pub nanoseconds: u32,
}

/// The number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// 12 bits are enough for Linux.
    pub major: u32,
    /// 20 bits are enough for Linux.
    pub minor: u32,
}

/// An extended attribute with its whole name, such as `user.colour`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// With its prefix, without a NUL.
    pub name: Vec<u8>,
    /// As getxattr(2) gives it.
    pub value: Vec<u8>,
}

/// Which file on the host an inode was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Which of the layers that made the tree, 0 for the lowest or only one.
    pub layer: u16,
    /// `stx_dev_major`, `stx_dev_minor`.
    pub device: (u32, u32),
    /// `stx_ino`.
    pub inode: u64,
    /// Of the last change of content or metadata.
    pub ctime: Time,
    /// The host has several names for it. Some may be outside of what was read.
    pub linked: bool,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// 1 to 255 bytes without `/` and NUL, neither `.` nor `..`; not always UTF-8.
    pub name: Box<[u8]>,
    /// What it names.
    pub inode: InodeId,
}

/// What an inode is, with what only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its names, sorted by their bytes.
    Directory(Vec<Child>),
    /// Its size in bytes; the data stays where it is.
    Regular(u64),
    /// Its target, any bytes but NUL.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A unix socket's name.
    Socket,
}

/// The metadata of a file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// The lower 12 bits of `st_mode`.
    pub permissions: u16,
    /// Owner, as the host numbers it.
    pub uid: u32,
    /// Group, as the host numbers it.
    pub gid: u32,
    /// Of the content.
    pub mtime: Time,
    /// Sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Where it came from.
    pub identity: Identity,
}

/// An inode and how it is reached.
#[derive(Clone, Debug)]
pub struct Node {
    /// The metadata.
    pub inode: Inode,
    /// How many names it has in this tree; for a directory as stat(2) counts: 2 and one for each subdirectory.
    pub links: u32,
    /// Its first name: the directory, and the position there. The root's is itself.
    first: (InodeId, usize),
    /// Bytes of the path by that name, with a slash after each part. Kept, because a hostile tree can be deep everywhere.
    path_length: usize,
}

/// A name or an inode that cannot be part of a tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No file system has such a name.
    #[error("The name {name:?} is not lawful: 1 to {NAME_MAX} bytes without slash and NUL, not `.` nor `..`")]
    Name {
        /// The name.
        name: OsString,
    },
    /// Names must be added in order of their bytes, which makes them unique.
    #[error("The name {name:?} is there twice, or out of order")]
    Order {
        /// The name.
        name: OsString,
    },
    /// Only a directory has names in it.
    #[error("The parent of {name:?} is not a directory")]
    Parent {
        /// The name.
        name: OsString,
    },
    /// A directory cannot have a second name.
    #[error("The second name {name:?} for a directory")]
    DirectoryLink {
        /// The name.
        name: OsString,
    },
    /// Deeper than any path can name.
    #[error("The path of {name:?} has more than {PATH_MAX} bytes")]
    Depth {
        /// The last name on the path.
        name: OsString,
    },
    /// A symbolic link's target does not fit in a path.
    #[error("The target of the symbolic link {name:?} is empty or has more than {PATH_MAX} bytes")]
    Target {
        /// The link's name.
        name: OsString,
    },
    /// Too many for this program.
    #[error("There are more than {NAMES_MAX} names")]
    Names,
    /// Too much for this program.
    #[error("Names, link targets and extended attributes have more than {BYTES_MAX} bytes")]
    Bytes,
}

/// A root directory and all below it. [`InodeId::ROOT`] is always there and a directory.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    names: usize,
    bytes: usize,
}

impl Tree {
    /// A tree of an empty root directory with the metadata of `root`; what `root` is otherwise does not matter.
    #[must_use]
    pub fn new(mut root: Inode) -> Self {
        root.kind = Kind::Directory(Vec::new());
        Self {
            nodes: vec![Node { inode: root, links: 2, first: (InodeId::ROOT, 0), path_length: 0 }],
            names: 0,
            bytes: 0,
        }
    }

    /// Adds `inode` (a directory: empty) as `name` in `parent`, after all names that are there already.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then as it was.
    pub fn add(&mut self, parent: InodeId, name: &[u8], mut inode: Inode) -> Result<InodeId, TreeError> {
        match &mut inode.kind {
            Kind::Directory(children) => children.clear(),
            Kind::Symlink(target) if target.is_empty() || target.len() > PATH_MAX => {
                return Err(TreeError::Target { name: os(name) });
            }
            _ => {}
        }
        let id = InodeId(u32::try_from(self.nodes.len()).map_err(|_| TreeError::Names)?);
        let is_directory = matches!(inode.kind, Kind::Directory(_));
        let bytes = self.bytes + weight(&inode);
        if bytes > BYTES_MAX {
            return Err(TreeError::Bytes);
        }
        let position = self.enter(parent, name, id)?;
        self.bytes = bytes + name.len();
        if is_directory {
            self.nodes[parent.index()].links += 1;
        }
        let links = if is_directory { 2 } else { 1 };
        let path_length = self.node(parent).path_length + name.len() + 1;
        self.nodes.push(Node { inode, links, first: (parent, position), path_length });
        Ok(id)
    }

    /// Gives `inode` another name.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then as it was.
    pub fn link(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<(), TreeError> {
        if matches!(self.node(inode).inode.kind, Kind::Directory(_)) {
            return Err(TreeError::DirectoryLink { name: os(name) });
        }
        self.enter(parent, name, inode)?;
        self.nodes[inode.index()].links += 1;
        Ok(())
    }

    fn enter(&mut self, parent: InodeId, name: &[u8], inode: InodeId) -> Result<usize, TreeError> {
        let forbidden = |byte: &u8| matches!(byte, 0 | b'/');
        if name.is_empty()
            || name.len() > NAME_MAX
            || name == b"."
            || name == b".."
            || name.iter().any(forbidden)
        {
            return Err(TreeError::Name { name: os(name) });
        }
        if self.node(parent).path_length + name.len() > PATH_MAX {
            return Err(TreeError::Depth { name: os(name) });
        }
        let Kind::Directory(children) = &mut self.nodes[parent.index()].inode.kind else {
            return Err(TreeError::Parent { name: os(name) });
        };
        if children.last().is_some_and(|last| *last.name >= *name) {
            return Err(TreeError::Order { name: os(name) });
        }
        if self.names >= NAMES_MAX {
            return Err(TreeError::Names);
        }
        self.names += 1;
        children.push(Child { name: name.into(), inode });
        Ok(children.len() - 1)
    }

    /// The node of `id`, which must be of this tree.
    #[must_use]
    pub fn node(&self, id: InodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// All nodes; a parent before what is in it.
    pub fn nodes(&self) -> impl Iterator<Item = (InodeId, &Node)> {
        (0..).map(InodeId).zip(&self.nodes)
    }

    /// How many inodes there are, the root included.
    #[must_use]
    pub fn inodes(&self) -> usize {
        self.nodes.len()
    }

    /// The parent directory of `id`'s first name; of the root itself.
    #[must_use]
    pub fn parent(&self, id: InodeId) -> InodeId {
        self.node(id).first.0
    }

    /// The first name of `id`; empty for the root.
    #[must_use]
    pub fn name(&self, id: InodeId) -> &[u8] {
        self.names_up(id).next().unwrap_or_default()
    }

    /// The first path of `id`, relative to the root: `etc/passwd`; empty for the root.
    #[must_use]
    pub fn path(&self, id: InodeId) -> PathBuf {
        let names: Vec<&[u8]> = self.names_up(id).collect();
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        PathBuf::from(OsString::from_vec(path))
    }

    fn names_up(&self, mut id: InodeId) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            if id == InodeId::ROOT {
                return None;
            }
            let (parent, position) = self.node(id).first;
            id = parent;
            match &self.node(parent).inode.kind {
                Kind::Directory(children) => Some(&*children[position].name),
                _ => None,
            }
        })
    }
}

/// What an inode adds to [`BYTES_MAX`].
fn weight(inode: &Inode) -> usize {
    let target = if let Kind::Symlink(target) = &inode.kind { target.len() } else { 0 };
    target + inode.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>()
}

fn os(name: &[u8]) -> OsString {
    OsString::from_vec(name.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: Kind) -> Inode {
        let (mtime, identity) = (Time::default(), Identity::default());
        Inode { kind, permissions: 0, uid: 0, gid: 0, mtime, xattrs: vec![], identity }
    }

    fn tree() -> Tree {
        Tree::new(inode(Kind::Fifo))
    }

    #[test]
    fn names_that_no_directory_has_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'n'; 256]] {
            let error = tree().add(InodeId::ROOT, name, inode(Kind::Fifo)).unwrap_err();
            assert!(matches!(error, TreeError::Name { .. }), "{name:?}");
        }
    }

    #[test]
    fn names_come_in_order_and_once() {
        let mut tree = tree();
        let b = tree.add(InodeId::ROOT, b"b", inode(Kind::Fifo)).unwrap();
        for name in [b"b", b"a"] {
            let error = tree.link(InodeId::ROOT, name, b).unwrap_err();
            assert!(matches!(error, TreeError::Order { .. }), "{name:?}");
        }
        assert!(matches!(tree.add(b, b"c", inode(Kind::Fifo)), Err(TreeError::Parent { .. })));
        assert!(matches!(
            tree.link(InodeId::ROOT, b"c", InodeId::ROOT),
            Err(TreeError::DirectoryLink { .. })
        ));
        assert_eq!((tree.inodes(), tree.node(b).links), (2, 1));
    }

    #[test]
    fn a_tree_is_as_deep_as_a_path_is_long() {
        let mut tree = tree();
        let mut directory = InodeId::ROOT;
        for _ in 0..PATH_MAX / 2 {
            directory = tree.add(directory, b"d", inode(Kind::Directory(vec![]))).unwrap();
        }
        assert_eq!(tree.path(directory).as_os_str().len(), PATH_MAX - 2);
        let error = tree.add(directory, b"dd", inode(Kind::Fifo)).unwrap_err();
        assert!(matches!(error, TreeError::Depth { .. }));
        tree.add(directory, b"d", inode(Kind::Fifo)).unwrap();
    }

    #[test]
    fn links_are_counted() {
        let mut tree = tree();
        let a = tree.add(InodeId::ROOT, b"a", inode(Kind::Directory(vec![]))).unwrap();
        let f = tree.add(a, b"f", inode(Kind::Regular(1))).unwrap();
        tree.link(InodeId::ROOT, b"g", f).unwrap();
        assert_eq!(tree.nodes().map(|(_, node)| node.links).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!((tree.path(f), tree.parent(f)), (PathBuf::from("a/f"), a));
    }

    #[test]
    fn memory_is_bounded() {
        let mut tree = tree();
        let xattrs = vec![Xattr { name: b"user.x".to_vec(), value: vec![0; BYTES_MAX] }];
        let error = tree.add(InodeId::ROOT, b"f", Inode { xattrs, ..inode(Kind::Fifo) }).unwrap_err();
        assert_eq!(error, TreeError::Bytes);
        let empty = tree.add(InodeId::ROOT, b"l", inode(Kind::Symlink([].into())));
        assert!(matches!(empty, Err(TreeError::Target { .. })));
    }
}
