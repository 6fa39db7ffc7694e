//! Compositions of small trees, read back; and the same with any of their bytes changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::file::lawful;
use super::spec::{Header, Places, VERSION};
use super::*;
use crate::checksum::{SEED, crc32c};
use crate::erofs::Layout;
use crate::tree::{InodeId, walk};

/// A directory, its composition, and the image that the reader must show.
struct Example {
    directory: tempfile::TempDir,
    bytes: Vec<u8>,
    layout: Layout,
}

impl Example {
    /// Files of these sizes, each in a directory of its own, filled with their own number.
    fn new(sizes: &[usize]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (index, size) in sizes.iter().enumerate() {
            let parent = directory.path().join(format!("{index:04}"));
            fs::create_dir(&parent).unwrap();
            fs::write(parent.join("file"), vec![index.to_le_bytes()[0] | 1; *size]).unwrap();
        }
        let walked = walk(directory.path()).unwrap();
        let layout = Layout::plan(&walked.tree).unwrap();
        let root =
            LayerRoot { path: directory.path(), identity: walked.tree.node(InodeId::ROOT).inode.identity };
        let mut out = tempfile::tempfile().unwrap();
        write(&out, &walked.tree, &layout, &[root], false).unwrap();
        let mut bytes = Vec::new();
        std::io::Seek::rewind(&mut out).unwrap();
        out.read_to_end(&mut bytes).unwrap();
        Self { directory, bytes, layout }
    }

    fn image(&self) -> Vec<u8> {
        let composition = open(&self.bytes).unwrap();
        let layer = File::open(self.directory.path()).unwrap();
        let mut image = Vec::new();
        while (image.len() as u64) < composition.size() {
            let at = image.len();
            let mut fill = |file: &File, offset: u64, len: u64| {
                image.resize(at + usize::try_from(len).unwrap(), 0);
                file.read_exact_at(&mut image[at..], offset).unwrap();
            };
            match composition.lookup(at as u64).unwrap() {
                Piece::Metadata { file_offset, len } => {
                    fill(composition.file_of_metadata(), file_offset, len)
                }
                Piece::Data { file, file_offset, len } => {
                    fill(&composition.file(file).unwrap().open(&layer).unwrap(), file_offset, len);
                }
                Piece::Zeros { len } => image.resize(at + usize::try_from(len).unwrap(), 0),
            }
        }
        image
    }
}

fn open(bytes: &[u8]) -> Result<Composition, CompositionError> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    Composition::open(file)
}

/// Makes the header's checksum right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[12..16].fill(0);
    let checksum = crc32c(SEED, &bytes[..size_of::<Header>()]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn the_image_is_that_of_a_copy() {
    let sizes: Vec<usize> = (0..150).map(|index| [0, 1, 4095, 4096, 4097, 9000][index % 6]).collect();
    let example = Example::new(&sizes);
    let copy = tempfile::NamedTempFile::new().unwrap();
    crate::erofs::build(example.directory.path(), copy.path()).unwrap();
    assert!(example.image() == fs::read(copy.path()).unwrap());

    let composition = open(&example.bytes).unwrap();
    assert_eq!(composition.blocks(), example.layout.blocks);
    assert_eq!(composition.metadata(), 4096..4096 + example.layout.metadata.len() as u64);
    assert_eq!(composition.files(), 125);
    let layer = composition.layer(0).unwrap();
    assert_eq!((composition.layers(), layer.path.as_path()), (1, example.directory.path()));
    let paths: BTreeMap<_, _> = (0..125)
        .map(|id| composition.file(FileId(id)).unwrap())
        .map(|file| (file.path.into_string().unwrap(), file.size))
        .collect();
    let expected = sizes.iter().enumerate().filter(|(_, size)| **size > 0);
    assert_eq!(paths, expected.map(|(index, size)| (format!("{index:04}/file"), *size as u64)).collect());
    for offset in [composition.size(), u64::MAX] {
        assert!(matches!(composition.lookup(offset), Err(CompositionError::Outside { .. })));
    }
    assert!(composition.file(FileId(125)).is_err() && composition.layer(1).is_err());
}

#[test]
fn an_empty_root_has_metadata_only() {
    let example = Example::new(&[]);
    assert_eq!(example.image(), example.layout.metadata);
}

#[test]
fn a_file_that_changed_is_not_opened() {
    let changes: [fn(&Path); 5] = [
        |file| fs::write(file, vec![9; 9000]).unwrap(),
        |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(1).unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::rename(file, file.with_extension("old")).unwrap();
            std::os::unix::fs::symlink(file.with_extension("old"), file).unwrap();
        },
        |file| {
            let parent = file.parent().unwrap();
            fs::rename(parent, parent.with_extension("old")).unwrap();
            std::os::unix::fs::symlink(parent.with_extension("old"), parent).unwrap();
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let example = Example::new(&[9000]);
        let file = open(&example.bytes).unwrap().file(FileId(0)).unwrap();
        let layer = File::open(example.directory.path()).unwrap();
        file.open(&layer).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30)); // the kernel's clock ticks slowly
        change(&example.directory.path().join("0000/file"));
        assert!(matches!(file.open(&layer), Err(OpenError::Changed { .. })), "{index}");
    }
}

/// One name of a file with two goes: its ctime changes, its data does not.
#[test]
fn links_may_go_where_the_writer_was_told_so() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "data").unwrap();
    fs::hard_link(directory.path().join("a"), directory.path().join("b")).unwrap();
    let walked = walk(directory.path()).unwrap();
    let layout = Layout::plan(&walked.tree).unwrap();
    let root = LayerRoot { path: directory.path(), identity: walked.tree.node(InodeId::ROOT).inode.identity };
    let opened = [false, true].map(|links_change| {
        let out = tempfile::tempfile().unwrap();
        write(&out, &walked.tree, &layout, &[root], links_change).unwrap();
        Composition::open(out).unwrap().file(FileId(0)).unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    fs::remove_file(directory.path().join("b")).unwrap();
    let layer = File::open(directory.path()).unwrap();
    assert!(matches!(opened[0].open(&layer), Err(OpenError::Changed { .. })));
    opened[1].open(&layer).unwrap();
}

#[test]
fn what_is_no_composition_is_refused() {
    let Example { bytes, .. } = Example::new(&[1, 5000]);
    assert!(matches!(open(&[]), Err(CompositionError::Magic)));
    assert!(matches!(open(&[0; 5000]), Err(CompositionError::Magic)));
    let mut other = bytes.clone();
    other[8] = 99;
    assert!(matches!(open(&sealed(other)), Err(CompositionError::Version { version: 99 })));
    let mut other = bytes.clone();
    other[20] ^= 1;
    assert!(matches!(open(&other), Err(CompositionError::Checksum)));
    assert!(matches!(open(&bytes[..bytes.len() - 1]), Err(CompositionError::Length { .. })));
    assert!(matches!(open(&[&bytes[..], b"x"].concat()), Err(CompositionError::Length { .. })));
    assert_eq!(Header::read_from_prefix(&bytes).unwrap().0.version.get(), VERSION);
}

/// All that a hostile file may do: be refused, or give pieces and paths that stay where they belong.
fn harmless(bytes: &[u8]) {
    let Ok(composition) = open(bytes) else { return };
    let (size, metadata) = (composition.size(), composition.metadata());
    assert!(metadata.end <= bytes.len() as u64);
    let step = (size / 64).max(1);
    let mut offsets: Vec<u64> = (0..64).map(|index| (index * step).min(size - 1)).collect();
    offsets.extend([0, 1, size - 1, metadata.end - 4097, metadata.end - 4096, metadata.end]);
    for offset in offsets.into_iter().filter(|offset| *offset < size) {
        match composition.lookup(offset) {
            Ok(Piece::Metadata { file_offset, len }) => {
                assert!(len > 0 && file_offset >= metadata.start && file_offset + len <= metadata.end);
            }
            Ok(Piece::Data { file, file_offset, len }) => {
                assert!(len > 0 && offset + len <= size && file.0 < composition.files());
                assert!(file_offset.checked_add(len).is_some());
            }
            Ok(Piece::Zeros { len }) => assert!(len > 0 && offset + len <= size),
            Err(_) => {}
        }
    }
    for id in (0..composition.files().min(200)).chain([u32::MAX]) {
        if let Ok(file) = composition.file(FileId(id)) {
            assert!(lawful(file.path.as_bytes()) && u32::from(file.layer) < composition.layers());
        }
    }
    for index in (0..composition.layers().min(200)).chain([u32::MAX]) {
        if let Ok(layer) = composition.layer(index) {
            assert!(layer.path.is_absolute());
        }
    }
}

/// What a change of the file writes, and where it is aimed.
fn change() -> impl Strategy<Value = (u8, prop::sample::Index, Vec<u8>)> {
    let hostile = prop_oneof![
        any::<[u8; 8]>().prop_map(|bytes| bytes.to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(vec![0xff; 8]),
        Just(vec![0; 8]),
        Just(b"../../..".to_vec()),
        Just(b"/".to_vec()),
    ];
    (0..5_u8, any::<prop::sample::Index>(), hostile)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_crafted_file_is_harmless(changes in prop::collection::vec(change(), 1..12)) {
        thread_local! {
            static EXAMPLE: Example = Example::new(&[5000; 150]);
        }
        let mut bytes = EXAMPLE.with(|example| example.bytes.clone());
        let places = Places::of(&Header::read_from_prefix(&bytes).unwrap().0).unwrap();
        for (part, index, value) in changes {
            let range = match part {
                0 => 8..40,
                1 | 2 => places.records..places.index,
                3 => places.index..places.strings,
                _ => places.strings..places.end,
            };
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let at = range.start + index.index(range.len());
            let end = (at + value.len()).min(range.end);
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        let version = VERSION.to_le_bytes();
        bytes[8..12].copy_from_slice(&version);
        harmless(&sealed(bytes));
    }

    #[test]
    fn any_header_is_harmless(blocks: u32, metadata: u32, files: u32, layers: u32, strings: u64, length in 0..20_000_usize) {
        let mut header = Header::read_from_bytes(&[0; size_of::<Header>()]).unwrap();
        header.magic = super::spec::MAGIC;
        header.version.set(VERSION);
        header.blocks.set(blocks);
        header.metadata_blocks.set(metadata % 3);
        header.files.set(files % 100);
        header.layers.set(layers % 10);
        let rest = Places::of(&header).unwrap().end;
        header.strings.set(if strings % 2 == 0 { (length as u64).saturating_sub(rest) } else { strings });
        let mut bytes = vec![0; length.max(40)];
        bytes[..40].copy_from_slice(header.as_bytes());
        harmless(&sealed(bytes));
    }
}
