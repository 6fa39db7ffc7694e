//! Layouts of trees, read back by the verifying reader.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::layout::{Layout, LayoutError};
use super::reader::{Found, read};
use super::spec::BLOCK_SIZE;
use crate::tree::{Device, Identity, Inode, InodeId, Kind, Time, Tree, Xattr};

const DAY: Time = Time { seconds: 86400, nanoseconds: 1 };

fn plain(kind: Kind) -> Inode {
    let identity = Identity::default();
    Inode { kind, permissions: 0o755, uid: 0, gid: 0, mtime: DAY, xattrs: vec![], identity }
}

fn empty() -> Tree {
    Tree::new(plain(Kind::Directory(vec![])))
}

/// What the reader must find for an inode, but for its place.
fn expected(tree: &Tree, id: InodeId, found: &Found) -> Found {
    let node = tree.node(id);
    let inode = &node.inode;
    let device = |Device { major, minor }: Device| minor & 0xff | major << 8 | (minor >> 8) << 20;
    let (format, size, address) = match &inode.kind {
        Kind::Directory(_) => (0o040_000, found.size, found.address),
        Kind::Regular(size) => (0o100_000, *size, found.address),
        Kind::Symlink(target) => (0o120_000, target.len() as u64, found.address),
        Kind::CharacterDevice(number) => (0o020_000, 0, device(*number)),
        Kind::BlockDevice(number) => (0o060_000, 0, device(*number)),
        Kind::Fifo => (0o010_000, 0, 0),
        Kind::Socket => (0o140_000, 0, 0),
    };
    Found {
        nid: found.nid,
        extended: found.extended,
        mode: format | inode.permissions,
        uid: inode.uid,
        gid: inode.gid,
        links: node.links,
        mtime: inode.mtime,
        size,
        address,
        xattrs: inode.xattrs.clone(),
        target: if let Kind::Symlink(target) = &inode.kind { target.to_vec() } else { vec![] },
    }
}

/// All names of a tree.
fn paths(tree: &Tree) -> BTreeMap<Vec<u8>, InodeId> {
    let mut paths = BTreeMap::from([(vec![], InodeId::ROOT)]);
    for (id, node) in tree.nodes() {
        let Kind::Directory(children) = &node.inode.kind else { continue };
        let mut directory = tree.path(id).as_os_str().as_bytes().to_vec();
        if !directory.is_empty() {
            directory.push(b'/');
        }
        for child in children {
            paths.insert([&directory[..], &child.name].concat(), child.inode);
        }
    }
    paths
}

/// Lays out `tree`, reads it back and compares everything.
fn round_trip(tree: &Tree) -> (Layout, BTreeMap<Vec<u8>, Found>) {
    let layout = Layout::plan(tree).unwrap();
    let found = read(&layout.metadata).unwrap();
    let paths = paths(tree);
    assert_eq!(found.keys().collect::<Vec<_>>(), paths.keys().collect::<Vec<_>>());
    let mut places = BTreeMap::new();
    for (path, id) in &paths {
        assert_eq!(found[path], expected(tree, *id, &found[path]), "{path:?}");
        assert_eq!(
            *places.entry(*id).or_insert(found[path].nid),
            found[path].nid,
            "a hard link is one inode"
        );
    }

    let mut end = layout.metadata.len() as u64;
    let mut data: BTreeMap<InodeId, u64> = BTreeMap::new();
    for extent in &layout.extents {
        assert_eq!(extent.image_offset, end, "extents follow one another");
        assert_eq!(Kind::Regular(extent.length), tree.node(extent.inode).inode.kind);
        end += extent.length.next_multiple_of(BLOCK_SIZE as u64);
        data.insert(extent.inode, extent.image_offset);
    }
    assert_eq!(end, layout.size());
    for (path, id) in &paths {
        if let Kind::Regular(1..) = tree.node(*id).inode.kind {
            assert_eq!(data[id], u64::from(found[path].address) * BLOCK_SIZE as u64);
        }
    }
    (layout, found)
}

#[test]
fn an_empty_root_is_one_block() {
    let (layout, found) = round_trip(&empty());
    assert_eq!((layout.blocks, layout.metadata.len(), found.len()), (1, BLOCK_SIZE, 1));
    assert!(!found[&vec![]].extended);
}

#[test]
fn a_directory_holds_a_hundred_thousand_names() {
    let mut tree = empty();
    for index in 0..100_000 {
        let name = format!("{index:06}{}", "n".repeat(index % 250));
        tree.add(InodeId::ROOT, name.as_bytes(), plain(Kind::Regular(1))).unwrap();
    }
    let (_, found) = round_trip(&tree);
    assert_eq!(found.len(), 100_001);
}

#[test]
fn names_before_the_dots_come_first() {
    let mut tree = empty();
    for name in [&b"\x01"[..], b"!", b"-", b".-", b"..!", b"...", b".a", b"\xff\xfe"] {
        tree.add(InodeId::ROOT, name, plain(Kind::Fifo)).unwrap();
    }
    round_trip(&tree);
}

#[test]
fn large_numbers_take_the_long_form() {
    let mut tree = empty();
    let cases = [
        Inode { uid: 65_536, ..plain(Kind::Fifo) },
        Inode { gid: u32::MAX, ..plain(Kind::Fifo) },
        Inode { mtime: Time { seconds: -1, nanoseconds: 999_999_999 }, ..plain(Kind::Fifo) },
        plain(Kind::Regular(5 << 30)),
        plain(Kind::Regular((4 << 30) - 1)),
    ];
    for (index, inode) in cases.into_iter().enumerate() {
        tree.add(InodeId::ROOT, format!("{index}").as_bytes(), inode).unwrap();
    }
    let many = tree.add(InodeId::ROOT, b"many", plain(Kind::Socket)).unwrap();
    for index in 0..66_000 {
        tree.link(InodeId::ROOT, format!("many{index:05}").as_bytes(), many).unwrap();
    }
    let (_, found) = round_trip(&tree);
    let extended: Vec<bool> =
        [b"0", b"1", b"2", b"3", b"4"].iter().map(|name| found[&name.to_vec()].extended).collect();
    assert_eq!(extended, [true, true, true, true, false]);
    assert!(found[&b"many".to_vec()].extended);
}

#[test]
fn what_has_no_place_is_refused() {
    let refused = |inode: Inode| {
        let mut tree = empty();
        tree.add(InodeId::ROOT, b"name", inode).unwrap();
        Layout::plan(&tree).unwrap_err()
    };
    let xattr = |index: usize, size: usize| Xattr {
        name: format!("user.{index}").into_bytes(),
        value: vec![1; size],
    };
    let value = Inode { xattrs: vec![xattr(0, 65_536)], ..plain(Kind::Fifo) };
    assert!(matches!(refused(value), LayoutError::XattrValue { path } if path.as_os_str() == "name"));
    let total = Inode { xattrs: (0..5).map(|index| xattr(index, 60_000)).collect(), ..plain(Kind::Fifo) };
    assert!(matches!(refused(total), LayoutError::XattrTotal { .. }));
    let device = Device { major: 4096, minor: 0 };
    assert!(matches!(refused(plain(Kind::BlockDevice(device))), LayoutError::Device { .. }));
    assert!(matches!(refused(plain(Kind::Regular(16 << 40))), LayoutError::Size));
    assert!(matches!(refused(plain(Kind::Regular(u64::MAX))), LayoutError::Size));
}

#[test]
fn attributes_outside_of_the_format_are_left_out() {
    let mut tree = empty();
    let names = ["btrfs.compression", "system.nfs4_acl", "system.posix_acl_access", "user.", "user.kept"];
    let xattrs = names.map(|name| Xattr { name: name.into(), value: vec![7] }).to_vec();
    tree.add(InodeId::ROOT, b"name", Inode { xattrs, ..plain(Kind::Fifo) }).unwrap();
    let found = read(&Layout::plan(&tree).unwrap().metadata).unwrap();
    let left: Vec<&[u8]> = found[&b"name".to_vec()].xattrs.iter().map(|xattr| &*xattr.name).collect();
    assert_eq!(left, [&b"system.posix_acl_access"[..], b"user.kept"]);
}

/// A tree as proptest makes and shrinks it.
#[derive(Clone, Debug)]
enum Model {
    Directory(Inode, BTreeMap<Vec<u8>, Model>),
    Leaf(Inode),
    /// Another name for some earlier file, if there is any.
    Link(prop::sample::Index),
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![4 => inode(kind()).prop_map(Model::Leaf), 1 => any::<prop::sample::Index>().prop_map(Model::Link)];
    leaf.prop_recursive(4, 200, 40, |inner| {
        let directory = inode(Just(Kind::Directory(vec![])));
        (directory, btree_map(name(), inner, 0..40))
            .prop_map(|(inode, children)| Model::Directory(inode, children))
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("not in a name", |byte| !matches!(byte, 0 | b'/'));
    let length = prop_oneof![4 => 1..20_usize, 1 => 250..=255_usize];
    length
        .prop_flat_map(move |length| vec(byte.clone(), length))
        .prop_filter("dots", |name| name != b"." && name != b"..")
}

fn kind() -> impl Strategy<Value = Kind> {
    let device = || (0..4096_u32, 0..1_u32 << 20).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        4 => prop_oneof![0..10_000_u64, 0..1_u64 << 34].prop_map(Kind::Regular),
        2 => prop_oneof![vec(1..=u8::MAX, 1..100), vec(1..=u8::MAX, 3900..4096)].prop_map(|target| Kind::Symlink(target.into())),
        1 => device().prop_map(Kind::CharacterDevice),
        1 => device().prop_map(Kind::BlockDevice),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

fn inode(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Inode> {
    let prefix = prop::sample::select(vec!["user.a", "trusted.b", "security.c", "lustre.d"]);
    let value = prop_oneof![4 => vec(any::<u8>(), 0..50), 1 => vec(any::<u8>(), 3000..9000)];
    let xattrs = btree_map(prefix, value, 0..3).prop_map(|xattrs| {
        let mut xattrs: Vec<Xattr> =
            xattrs.into_iter().map(|(name, value)| Xattr { name: name.into(), value }).collect();
        xattrs.sort();
        xattrs
    });
    let time =
        (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Time { seconds, nanoseconds });
    let time = prop_oneof![Just(DAY), time];
    let owner = || prop_oneof![0..2000_u32, any::<u32>()];
    (kind, 0..0o10_000_u16, owner(), owner(), time, xattrs).prop_map(
        |(kind, permissions, uid, gid, mtime, xattrs)| Inode {
            kind,
            permissions,
            uid,
            gid,
            mtime,
            xattrs,
            identity: Identity::default(),
        },
    )
}

fn tree(model: &Model) -> Tree {
    let Model::Directory(root, children) = model else { return empty() };
    let mut tree = Tree::new(root.clone());
    let mut files = Vec::new();
    let mut pending = vec![(InodeId::ROOT, children)];
    while let Some((directory, children)) = pending.pop() {
        for (name, child) in children {
            match child {
                Model::Directory(inode, children) => {
                    pending.push((tree.add(directory, name, inode.clone()).unwrap(), children));
                }
                Model::Leaf(inode) => files.push(tree.add(directory, name, inode.clone()).unwrap()),
                Model::Link(index) if !files.is_empty() => {
                    tree.link(directory, name, *index.get(&files)).unwrap();
                }
                Model::Link(_) => {}
            }
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_tree_comes_back(model in model()) {
        round_trip(&tree(&model));
    }
}
