//! Images of others. As an archive: whatever the bytes are, they are images or are refused. As a layer: the bytes are the layer
//! of an image that is right in all else, with right checksums of its entries. Nothing is left of what is refused, and nothing
//! is ever outside of the store.

use std::fs;
use std::path::Path;

use msb::home::Home;
use msb::image::{Digest, Images, Limits};
use serde_json::json;

use crate::place::Place;

/// One block of a tar archive, and where its header has the size, the checksum.
pub(crate) const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// Of a layer that a fuzzer makes up.
const LIMITS: Limits = Limits { entries: 500, bytes: 4 << 20 };

thread_local! {
    static PLACE: Place = Place::new();
}

pub(crate) fn archive(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    mend(&mut bytes);
    load(&bytes);
}

pub(crate) fn layer(bytes: &[u8]) {
    let mut layer = bytes.to_vec();
    mend(&mut layer);
    // Below it a layer with what a hostile one would like to have: links out, files and directories.
    let mut below = Vec::new();
    for (name, kind, target) in [
        ("d", b'5', ""),
        ("d/f", b'0', ""),
        ("out", b'2', "../../../kept"),
        ("up", b'2', ".."),
        ("a", b'0', ""),
    ] {
        below.extend(header(name, kind, target, 0));
    }
    below.extend([0; 2 * BLOCK]);
    let ids = [&below, &layer].map(|layer| Digest::of(layer).to_string());
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let list = json!([{"Config": "c", "RepoTags": ["x:1"], "Layers": ["b", "l"]}]);
    let mut archive = Vec::new();
    for (name, content) in [
        ("b", &below),
        ("l", &layer),
        ("c", &config.to_string().into()),
        ("manifest.json", &list.to_string().into()),
    ] {
        archive.extend(header(name, b'0', "", content.len()));
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.extend([0; 2 * BLOCK]);
    load(&archive);
}

fn load(archive: &[u8]) {
    PLACE.with(|place| {
        let outer = place.fresh("outer");
        fs::write(outer.join("kept"), "kept").expect("a file can be written");
        let home = Home::at(outer.join("home")).expect("a directory can be made");
        let images = Images::open(&home).expect("and a store").limited(LIMITS);
        let loaded = images.load_archive(archive, &());
        assert_eq!(fs::read(outer.join("kept")).expect("what is beside the store stays"), b"kept");
        assert_eq!(fs::read_dir(&outer).expect("and its directory").count(), 2);
        if loaded.is_err() {
            assert!(images.list().expect("the list can be read").is_empty(), "what is refused is no image");
        }
        // As whoever removes a sandbox's files does: no link is followed.
        remove(&home.images());
    });
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).expect("what was made can be removed");
}

/// One entry of an archive.
pub(crate) fn header(name: &str, kind: u8, target: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000755");
    for id in [108, 116] {
        block[id..id + 7].copy_from_slice(b"0000000");
    }
    block[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Makes the checksum of each header right: a fuzzer would not find it.
fn mend(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            at += BLOCK;
            continue;
        }
        seal(block);
        let digits = block[SIZE].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0, |size: usize, digit| size << 3 | usize::from(digit - b'0'));
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}
