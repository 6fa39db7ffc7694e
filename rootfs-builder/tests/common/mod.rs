//! What the tests on files share: hard roots, mounts, comparison, and reasons to skip.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rootfs_builder::tree::{Kind, Time, Tree, Xattr, walk};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr, makedev,
    mknodat, utimensat,
};

pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a tool to its end; none, with the reason told, if it is not installed.
pub fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            test_skips::skip(format_args!("{name} cannot be run here: {error}"));
            None
        }
    }
}

/// Runs a tool that must succeed.
pub fn succeeds(name: &str, arguments: &[&str]) {
    let Some(output) = tool(name, arguments) else { return };
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{name} {arguments:?}: {text}");
}

/// A mount that ends with the test.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts (`none` binds); nothing, with the reason told, where that is not possible for reasons that are not the image's.
    pub fn new(filesystem: &str, source: &Path, options: &str, at: &Path) -> Option<Self> {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let reason = if !root() {
            "only root mounts"
        } else if filesystem != "none" && !known.split_whitespace().any(|name| name == filesystem) {
            "this kernel does not have the file system"
        } else if options.contains("loop") && !tool("losetup", &["-f"])?.status.success() {
            "there is no free loop device"
        } else {
            let arguments = ["-t", filesystem, "-o", options, source.to_str().unwrap(), at.to_str().unwrap()];
            succeeds("mount", &arguments);
            return Some(Self(at.to_owned()));
        };
        test_skips::skip(format_args!("{filesystem} can't be mounted here: {reason}"));
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A file as the walk sees it, without what differs from place to place.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    pub kind: String,
    pub permissions: u16,
    pub owner: (u32, u32),
    pub mtime: Time,
    pub xattrs: Vec<Xattr>,
    pub links: u32,
    /// The first path of the same inode.
    pub first: PathBuf,
}

/// Every path of a tree.
pub fn describe(tree: &Tree) -> BTreeMap<PathBuf, Described> {
    let mut all = BTreeMap::new();
    for (id, _) in tree.nodes() {
        let Kind::Directory(children) = &tree.node(id).inode.kind else { continue };
        for child in children {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&child.name);
            let node = tree.node(child.inode);
            let kind = match &node.inode.kind {
                Kind::Directory(children) => format!("directory of {}", children.len()),
                other => format!("{other:?}"),
            };
            let file = Described {
                kind,
                permissions: node.inode.permissions,
                owner: (node.inode.uid, node.inode.gid),
                mtime: node.inode.mtime,
                xattrs: node.inode.xattrs.clone(),
                links: node.links,
                first: tree.path(child.inode),
            };
            all.insert(tree.path(id).join(name), file);
        }
    }
    all
}

/// Both directories hold the same, to the last byte.
pub fn assert_same(one: &Path, other: &Path) {
    compare(one, other, &[one, other].map(|path| describe(&walk(path).unwrap().tree)));
}

/// As [`assert_same`], whatever names share an inode: where an overlay shows that depends on what it has cached.
pub fn assert_same_but_links(one: &Path, other: &Path) {
    let mut trees = [one, other].map(|path| describe(&walk(path).unwrap().tree));
    for file in trees.iter_mut().flat_map(BTreeMap::values_mut) {
        (file.links, file.first) = (0, PathBuf::new());
    }
    compare(one, other, &trees);
}

fn compare(one: &Path, other: &Path, trees: &[BTreeMap<PathBuf, Described>; 2]) {
    assert_eq!(trees[0].keys().collect::<Vec<_>>(), trees[1].keys().collect::<Vec<_>>());
    for (path, file) in &trees[0] {
        assert_eq!(*file, trees[1][path], "{path:?}");
        if file.kind.starts_with("Regular") {
            assert!(same_bytes(&one.join(path), &other.join(path)), "the data of {path:?}");
        }
    }
}

/// Compares in pieces: sparse files may be larger than memory.
fn same_bytes(one: &Path, other: &Path) -> bool {
    let files = [one, other].map(|path| File::open(path).unwrap());
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut offset = 0;
    loop {
        let counts: Vec<usize> = files
            .iter()
            .zip(&mut buffers)
            .map(|(file, buffer)| {
                let mut filled = 0;
                loop {
                    match file.read_at(&mut buffer[filled..], offset + filled as u64).unwrap() {
                        0 => break filled,
                        count => filled += count,
                    }
                }
            })
            .collect();
        if counts[0] != counts[1] || buffers[0][..counts[0]] != buffers[1][..counts[1]] {
            return false;
        }
        if counts[0] == 0 {
            return true;
        }
        offset += counts[0] as u64;
    }
}

/// Fills `at` with what is hard to store; more of it as root.
pub fn hard_root(at: &Path) {
    for directory in ["a/b/c/d", "!before the dots", "-", "empty", "many"] {
        fs::create_dir_all(at.join(directory)).unwrap();
    }
    fs::write(at.join("a/file"), "hello\n").unwrap();
    for link in ["a/b/hard", "hard", "zz"] {
        fs::hard_link(at.join("a/file"), at.join(link)).unwrap();
    }
    fs::write(at.join("nothing"), "").unwrap();
    fs::write(at.join("n".repeat(255)), "a long name").unwrap();
    let raw: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe\n\x01 '\"\\*");
    fs::write(at.join(raw), "not UTF-8").unwrap();
    for size in [4095, 4096, 4097, 131_072, 131_073, 3_000_001] {
        let bytes: Vec<u8> = (0..size).map(|index: usize| (index * 31 / 7).to_le_bytes()[0]).collect();
        fs::write(at.join(format!("size-{size}")), bytes).unwrap();
    }
    for (name, target) in [("to-root", "/"), ("dangling", "../../../nowhere"), ("self", "self")] {
        symlink(target, at.join(name)).unwrap();
    }
    symlink("x".repeat(4095), at.join("longest-link")).unwrap();
    for index in 0..2000 {
        fs::write(at.join(format!("many/{index}")), index.to_string()).unwrap();
    }
    let sparse = File::create(at.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 20 << 20).unwrap();
    mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    mknodat(CWD, at.join("socket"), FileType::Socket, Mode::from(0o600), 0).unwrap();
    fs::set_permissions(at.join("size-4096"), Permissions::from_mode(0o6711)).unwrap();
    fs::set_permissions(at.join("empty"), Permissions::from_mode(0o1777)).unwrap();
    attribute(&at.join("a/file"), "user.colour", b"blue");
    attribute(&at.join("a/file"), "user.empty", b"");
    attribute(&at.join("a"), "user.on.a.directory", &[0xff; 2000]);
    // An access control list as the kernel exchanges it: version 2, then tag, permissions and id of each entry.
    let entry =
        |tag: u8, permissions: u8, id: u32| [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat();
    let entries = [(1, 6, !0), (2, 6, 1000), (4, 4, !0), (0x10, 6, !0), (0x20, 4, !0)];
    let list = entries.map(|(tag, permissions, id)| entry(tag, permissions, id)).concat();
    attribute(&at.join("size-4095"), "system.posix_acl_access", &[&2_u32.to_le_bytes()[..], &list].concat());
    attribute(&at.join("a/b"), "system.posix_acl_default", &[&2_u32.to_le_bytes()[..], &list].concat());
    if root() {
        as_root(at);
    }
    for (name, seconds, nanoseconds) in
        [("nothing", -1, 999_999_999), ("hard", 0, 0), ("dangling", 1 << 33, 1)]
    {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, at.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn as_root(at: &Path) {
    let (character, block) = (FileType::CharacterDevice, FileType::BlockDevice);
    mknodat(CWD, at.join("null"), character, Mode::from(0o666), makedev(1, 3)).unwrap();
    mknodat(CWD, at.join("disk"), block, Mode::from(0o660), makedev(4095, 1_048_575)).unwrap();
    for (name, owner) in [("size-4097", 65_536), ("to-root", 4_000_000_000), ("a/b/c", 1000)] {
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner + 1));
        chownat(CWD, at.join(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    attribute(&at.join("fifo"), "trusted.pipe", b"dream");
    // struct vfs_cap_data of revision 2, effective: CAP_NET_BIND_SERVICE.
    let capability = [0x0200_0001_u32, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
    attribute(&at.join("size-131072"), "security.capability", &capability);
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    if let Err(error) = lsetxattr(path, name, value, XattrFlags::empty()) {
        eprintln!("not tested: {name} cannot be set here: {error}");
    }
}
