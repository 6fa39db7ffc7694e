//! Trees of layers, with names, links and notes as only a stranger makes them: merged and laid out, or refused. What is laid
//! out can be read back (when it is built for a fuzzer), and its extents follow each other.

use arbitrary::{Arbitrary, Result, Unstructured};
use rootfs_builder::erofs::{BLOCK_SIZE, Layout};
use rootfs_builder::tree::{Device, Identity, Inode, InodeId, Keep, Kind, Marks, Time, Tree, Xattr, merge};

/// Of one layer.
const NAMES: usize = 200;
/// Attributes that mean something somewhere.
const ATTRIBUTES: [&str; 10] = [
    "trusted.overlay.opaque",
    "trusted.overlay.whiteout",
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "trusted.overlay.overlay.opaque",
    "user.overlay.opaque",
    "user.overlay.whiteout",
    "user.x",
    "security.capability",
    "system.posix_acl_access",
];
const PIECES: [&[u8]; 10] =
    [b"a", b"b", b"etc", b".wh.a", b"..", b".", b"\xff\xfe", b"/", b"-", &[b'n'; 120]];

pub(crate) fn run(bytes: &[u8]) {
    let mut from = Unstructured::new(bytes);
    let _ = layers(&mut from);
}

fn layers(from: &mut Unstructured<'_>) -> Result<()> {
    let count = from.int_in_range(1..=3)?;
    let marks = if bool::arbitrary(from)? { Marks::Trusted } else { Marks::User };
    let keep = if bool::arbitrary(from)? { Keep::Visible } else { Keep::Hidden };
    let trees = (0..count).map(|_| tree(from)).collect::<Result<Vec<_>>>()?;
    for tree in &trees {
        lay_out(tree);
    }
    if let Ok(merged) = merge(&trees, marks, keep) {
        lay_out(&merged);
    }
    Ok(())
}

fn tree(from: &mut Unstructured<'_>) -> Result<Tree> {
    let mut tree = Tree::new(inode(from)?);
    let mut directories = vec![InodeId::ROOT];
    let mut files = Vec::new();
    for _ in 0..from.int_in_range(0..=NAMES)? {
        if from.is_empty() {
            break;
        }
        let parent = *from.choose(&directories)?;
        let name = name(from)?;
        if !files.is_empty() && u8::arbitrary(from)? < 40 {
            let _ = tree.link(parent, &name, *from.choose(&files)?);
            continue;
        }
        let inode = inode(from)?;
        let directory = matches!(inode.kind, Kind::Directory(_));
        if let Ok(id) = tree.add(parent, &name, inode) {
            if directory { directories.push(id) } else { files.push(id) }
        }
    }
    Ok(tree)
}

/// Names come in order: most begin with a byte that only grows where the fuzzer lets it.
fn name(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut name = vec![u8::arbitrary(from)?];
    for _ in 0..from.int_in_range(0..=2)? {
        name.extend_from_slice(from.choose(&PIECES)?);
    }
    Ok(name)
}

fn inode(from: &mut Unstructured<'_>) -> Result<Inode> {
    let device = |from: &mut Unstructured<'_>| -> Result<Device> {
        Ok(match u8::arbitrary(from)? {
            0..=127 => Device { major: 0, minor: 0 },
            128..=200 => {
                Device { major: u32::from(u16::arbitrary(from)?), minor: u32::arbitrary(from)? >> 11 }
            }
            _ => Device { major: u32::arbitrary(from)?, minor: u32::arbitrary(from)? },
        })
    };
    let kind = match from.int_in_range(0..=9)? {
        0..=2 => Kind::Directory(Vec::new()),
        3 | 4 => Kind::Regular(u64::from(u16::arbitrary(from)?)),
        5 => Kind::Regular(u64::arbitrary(from)? >> (u8::arbitrary(from)? % 64)),
        6 => {
            let length = usize::from(u16::arbitrary(from)? % 4200);
            Kind::Symlink(vec![b'x'; length].into())
        }
        7 => Kind::CharacterDevice(device(from)?),
        8 => Kind::BlockDevice(device(from)?),
        _ => {
            if bool::arbitrary(from)? {
                Kind::Fifo
            } else {
                Kind::Socket
            }
        }
    };
    let mut xattrs = Vec::new();
    for _ in 0..from.int_in_range(0..=3)? {
        let name = from.choose(&ATTRIBUTES)?.as_bytes().to_vec();
        let value = match u8::arbitrary(from)? {
            0..=99 => b"y".to_vec(),
            100..=140 => b"x".to_vec(),
            length => vec![7; usize::from(length) * 40],
        };
        xattrs.push(Xattr { name, value });
    }
    xattrs.sort();
    xattrs.dedup_by(|one, other| one.name == other.name);
    let mtime = Time { seconds: i64::arbitrary(from)?, nanoseconds: u32::arbitrary(from)? % 1_000_000_000 };
    let [uid, gid] = <[u32; 2]>::arbitrary(from)?;
    let permissions = u16::arbitrary(from)? & 0o7777;
    Ok(Inode { kind, permissions, uid, gid, mtime, xattrs, identity: Identity::default() })
}

fn lay_out(tree: &Tree) {
    let Ok(layout) = Layout::plan(tree) else { return };
    let mut end = u64::try_from(layout.metadata.len()).expect("a length fits in 64 bits");
    assert_eq!(layout.metadata.len() % BLOCK_SIZE, 0);
    for extent in &layout.extents {
        assert_eq!(extent.image_offset, end, "extents follow each other");
        end = end.checked_add(extent.length).expect("within 16 TiB").next_multiple_of(BLOCK_SIZE as u64);
    }
    assert_eq!(end, u64::from(layout.blocks) * BLOCK_SIZE as u64);
    #[cfg(feature = "engine")]
    if let Err(wrong) = rootfs_builder::erofs::read_back(&layout.metadata) {
        panic!("what was laid out reads back wrong: {wrong}");
    }
}
