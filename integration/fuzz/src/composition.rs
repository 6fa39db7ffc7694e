//! A composition, with any of its bytes changed: it is read, or refused. And with a disk of it in the machine, what a VMM that was
//! broken into says to its sandbox process (when it is built for a fuzzer).

use std::fs::{self, File};
use std::path::PathBuf;

use rootfs_builder::composed::{Composition, FileId, Kind, Piece, compose};
use rootfs_builder::output::Durability;

use crate::place::Place;

/// Layers, files and blocks that are looked at.
const LOOKED_AT: u32 = 300;
/// A block of an image.
const BLOCK: u64 = 4096;

#[cfg_attr(
    not(feature = "engine"),
    allow(dead_code, reason = "the cell, which a fuzzer alone has, is lent them")
)]
struct Made {
    place: Place,
    layers: Vec<PathBuf>,
    composition: PathBuf,
    bytes: Vec<u8>,
}

thread_local! {
    static MADE: Made = made();
}

/// Of two layers, with files of some sizes in directories.
fn made() -> Made {
    let place = Place::new();
    let layers = ["one", "two"].map(|name| place.fresh(name)).to_vec();
    for (layer, name, length) in
        [(0, "a", 10), (0, "d/b", 5000), (0, "d/e/c", 1), (1, "d/f", 40_000), (1, "empty", 0), (1, "a", 4096)]
    {
        let path = layers[layer].join(name);
        fs::create_dir_all(path.parent().expect("it is in its layer")).expect("a directory can be made");
        fs::write(path, vec![b'x'; length]).expect("a file can be written");
    }
    let composition = place.path().join("composition");
    let kind = Kind::Chain(rootfs_builder::tree::Marks::Trusted);
    let composed = compose(&layers, kind, &composition, Durability::Throwaway).expect("it is composed");
    drop(composed.expect("it is not empty"));
    let bytes = fs::read(&composition).expect("it can be read");
    Made { place, layers, composition, bytes }
}

/// Changes: where (two bytes), how many bytes (one), and these.
pub(crate) fn run(bytes: &[u8]) {
    MADE.with(|made| {
        let mut changed = made.bytes.clone();
        let mut rest = bytes;
        while let [low, high, length, behind @ ..] = rest {
            let (new, behind) = behind.split_at(usize::from(*length).min(behind.len()));
            let at = usize::from(u16::from_le_bytes([*low, *high])) % changed.len();
            let end = (at + new.len()).min(changed.len());
            changed[at..end].copy_from_slice(&new[..end - at]);
            rest = behind;
        }
        #[cfg(feature = "engine")]
        rootfs_builder::composed::seal(&mut changed);
        let path = made.place.path().join("changed");
        fs::write(&path, &changed).expect("a file can be written");
        read(File::open(&path).expect("and opened"));
    });
}

fn read(file: File) {
    let Ok(composition) = Composition::open(file) else { return };
    for index in 0..composition.layers().min(LOOKED_AT) {
        if let Ok(layer) = composition.layer(index) {
            assert!(layer.path.is_absolute());
        }
    }
    for id in 0..composition.files().min(LOOKED_AT) {
        let _ = composition.file(FileId(id));
    }
    let size = composition.size();
    let places = (0..u64::from(LOOKED_AT)).map(|number| number * BLOCK + number);
    for at in places.chain([size - 1]).filter(|at| *at < size) {
        if let Ok(Piece::Metadata { len, .. } | Piece::Data { len, .. } | Piece::Zeros { len }) =
            composition.lookup(at)
        {
            assert!((1..=size - at).contains(&len), "{at} and {len} of {size}");
        }
    }
    composition.lookup(size).expect_err("there is nothing behind it");
}

/// Each byte of its header and of its tables, by itself.
pub(crate) fn changes() -> Vec<Vec<u8>> {
    let length = MADE.with(|made| u16::try_from(made.bytes.len()).expect("a small composition"));
    let ends = (0..48).chain((4096..length).step_by(4));
    let mut all = vec![Vec::new()];
    all.extend(ends.filter(|at| *at < 48 || at % 4096 < 256).flat_map(|at| {
        let [low, high] = at.to_le_bytes();
        [vec![low, high, 1, 0], vec![low, high, 4, 0xff, 0xff, 0xff, 0xff], vec![low, high, 1, 1]]
    }));
    all
}

/// See `msb_runtime::sandbox::cell::fuzz`.
#[cfg(feature = "engine")]
pub(crate) fn cell(bytes: &[u8]) {
    MADE.with(|made| {
        let (composition, layers) = (made.composition.clone(), made.layers.clone());
        let disk = msb_runtime::config::DiskConfig::Composed { composition, layers };
        msb_runtime::sandbox::cell::fuzz::run(&disk, bytes);
    });
}
