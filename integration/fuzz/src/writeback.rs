//! A disk that a container has written, with any of its bytes changed by its guest: it is brought to a root, and nowhere else,
//! or refused.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use flate2::read::GzDecoder;
use rootfs_builder::writeback::{Limits, Options, apply};

use crate::place::Place;

/// A disk of 16 MiB with files of each kind, its journal in use: the blocks of it that are not all zeros, each behind its
/// number in four bytes, compressed. `make-disk.sh` has made it.
const DISK: &[u8] = include_bytes!("../disk.gz");
const SIZE: u64 = 16 << 20;
const BLOCK: usize = 4096;
const CHANGES: usize = 64;

fn blocks() -> &'static [(u32, Vec<u8>)] {
    static BLOCKS: OnceLock<Vec<(u32, Vec<u8>)>> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let mut plain = Vec::new();
        GzDecoder::new(DISK).read_to_end(&mut plain).expect("our own file");
        plain
            .chunks(4 + BLOCK)
            .map(|block| {
                let (number, content) = block.split_first_chunk().expect("a number and a block");
                (u32::from_le_bytes(*number), content.to_vec())
            })
            .collect()
    })
}

/// How many blocks there are to be changed.
pub(crate) fn count() -> u16 {
    blocks().len().try_into().expect("a small disk")
}

thread_local! {
    static PLACE: Place = Place::new();
}

pub(crate) fn run(bytes: &[u8]) {
    PLACE.with(|place| {
        let image = place.path().join("disk");
        let file = whole(&image);
        let _ = spoil(&file, &mut Unstructured::new(bytes));
        drop(file);
        bring(place, &image);
    });
}

/// The disk as it was written.
fn whole(image: &Path) -> File {
    let file = File::create(image).expect("a file can be made");
    file.set_len(SIZE).expect("and be sparse");
    for (number, content) in blocks() {
        file.write_all_at(content, u64::from(*number) * BLOCK as u64).expect("and be written");
    }
    file
}

fn spoil(disk: &File, from: &mut Unstructured<'_>) -> Result<()> {
    let all = blocks();
    for _ in 0..CHANGES {
        if from.is_empty() {
            break;
        }
        let (number, _) = all[usize::from(u16::arbitrary(from)?) % all.len()];
        let kind = u8::arbitrary(from)?;
        let start = u64::from(number) * BLOCK as u64;
        if kind & 15 == 0 {
            let (_, content) = &all[usize::from(u16::arbitrary(from)?) % all.len()];
            disk.write_all_at(content, start).expect("a file can be written");
            continue;
        }
        // Most structures are small and aligned.
        let at = (u64::from(u16::arbitrary(from)?) % BLOCK as u64) & !u64::from(kind >> 4 & 3);
        let length = (usize::from(kind & 15)).min(from.len()).min(BLOCK - usize::try_from(at).unwrap_or(0));
        disk.write_all_at(from.bytes(length)?, start + at).expect("a file can be written");
    }
    Ok(())
}

fn bring(place: &Place, image: &Path) {
    let outer = place.fresh("outer");
    let root = outer.join("root");
    fs::create_dir(&root).expect("a directory can be made");
    fs::write(outer.join("kept"), "kept").expect("a file can be written");
    let limits = Limits { names: 2000, name_bytes: 100_000, depth: 40 };
    let options = Options { limits, ..Options::default() };
    match apply(image, &root, &options) {
        Ok(_) => {}
        Err(error) if error.is_guest() => {
            let left = fs::read_dir(&root).expect("the root is there").count();
            assert_eq!(left, 0, "a disk that is refused changes nothing: {error}");
        }
        Err(_) => {}
    }
    assert_eq!(fs::read(outer.join("kept")).expect("what is beside the root stays"), b"kept");
    assert_eq!(fs::read_dir(&outer).expect("and its directory").count(), 2);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    /// Of everything below a directory: its kind, mode and owner, when it was changed, and what it holds.
    fn content(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let data = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if stat.is_dir() {
                all.extend(content(&path));
            }
            all.insert(path, (stat.mode(), stat.uid(), stat.mtime(), stat.mtime_nsec(), data));
        }
        all
    }

    /// Nobody but the write-back should write to a root meanwhile; if somebody does (Docker's own copying, a person), and turns
    /// its directories into links to the host's, nothing of the host's is changed, made or taken away.
    #[test]
    fn a_root_that_changes_meanwhile_leads_nowhere() {
        let rounds = test_skips::rounds(300);
        let place = Place::new();
        let image = place.path().join("disk");
        drop(whole(&image));
        let [root, canary, parked] = ["root", "canary", "parked"].map(|name| place.fresh(name));
        // What the disk has, so that there is something to be overwritten; and more, which an opaque directory hides.
        for directory in ["etc/deep/er", "many", "deep/er"] {
            for inside in [&canary, &root] {
                fs::create_dir_all(inside.join(directory)).unwrap();
            }
            fs::write(canary.join(directory).join("kept"), "kept").unwrap();
        }
        for name in
            ["file", "moved", "gone", "link", "etc/deep/secret", "many/a-file-with-a-name-of-some-length-7"]
        {
            fs::write(canary.join(name), "kept").unwrap();
        }
        let before = content(&canary);
        let names = ["etc", "many", "etc/deep"];
        for (number, name) in names.iter().enumerate() {
            let link = parked.join(number.to_string());
            symlink(if number == 2 { canary.join("etc/deep") } else { canary.join(name) }, link).unwrap();
        }
        let (end, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        let mut brought = 0_u32;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    for (number, name) in names.iter().enumerate() {
                        let parked = parked.join(number.to_string());
                        // It may be gone just now, or behind one of the links.
                        let name = root.join(name);
                        if name.parent().is_some_and(|parent| !parent.is_symlink())
                            && renameat_with(CWD, &name, CWD, &parked, RenameFlags::EXCHANGE).is_ok()
                        {
                            swaps.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
            test_skips::race(rounds, || {
                brought += u32::from(apply(&image, &root, &Options::default()).is_ok());
                swaps.load(Ordering::Relaxed) > rounds && brought > 0
            });
            end.store(true, Ordering::Relaxed);
        });
        let after = content(&canary);
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (path, was) in &before {
            assert_eq!(after[path], *was, "{}", path.display());
        }
        assert!(swaps.load(Ordering::Relaxed) > rounds, "it was a race");
        assert!(brought > 0, "and not always lost");
    }
}
