//! Roots whose directories turn into links out of them, and back, while they are read: what is outside is never seen.
#![allow(missing_docs)]

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use rootfs_builder::composed::{Kind, compose};
    use rootfs_builder::output::Durability;
    use rootfs_builder::tree::{Marks, Tree, walk};
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    /// Exchanges two names as fast as it can while `act` runs again and again; both are as they were at the end.
    fn raced(one: &Path, other: &Path, mut act: impl FnMut()) {
        // As many as take a second or two.
        let rounds = test_skips::rounds(300);
        let (end, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) || swaps.load(Ordering::Relaxed) % 2 != 0 {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            test_skips::race(rounds, || {
                act();
                swaps.load(Ordering::Relaxed) > rounds
            });
            end.store(true, Ordering::Relaxed);
        });
        assert!(swaps.load(Ordering::Relaxed) > rounds, "it was a race");
    }

    fn names(tree: &Tree) -> Vec<String> {
        tree.nodes().map(|(id, _)| tree.path(id).to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_layer_whose_directory_becomes_a_link_shows_nothing_of_the_host() {
        let place = tempfile::tempdir().unwrap();
        let [layer, canary, link] = ["layer", "canary", "link"].map(|name| place.path().join(name));
        for directory in [layer.join("a/b"), canary.join("b")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(layer.join("a/b/file"), "inside").unwrap();
        fs::write(canary.join("b/file"), "secret").unwrap();
        fs::write(canary.join("b/secret"), "secret").unwrap();
        fs::write(canary.join("secret"), "secret").unwrap();
        symlink(&canary, &link).unwrap();
        let out = place.path().join("composition");
        let (mut whole, mut links) = (0, 0);
        raced(&layer.join("a"), &link, || {
            if let Ok(walked) = walk(&layer) {
                let names = names(&walked.tree);
                assert!(names.iter().all(|name| !name.contains("secret")), "{names:?}");
                whole += u32::from(names.iter().any(|name| name == "a/b/file"));
                links += u32::from(names.len() == 2);
            }
            let kinds = [Kind::Plain, Kind::Chain(Marks::Trusted)];
            for kind in kinds {
                let composed = compose(std::slice::from_ref(&layer), kind, &out, Durability::Throwaway);
                let Ok(Some(composed)) = composed else { continue };
                let root = File::open(&composed.layers[0]).unwrap();
                for id in 0..composed.composition.files() {
                    let file = composed.composition.file(rootfs_builder::composed::FileId(id)).unwrap();
                    assert!(!file.path.to_string_lossy().contains("secret"));
                    let mut content = String::new();
                    if let Ok(mut file) = file.open(&root) {
                        file.read_to_string(&mut content).unwrap();
                        assert_eq!(content, "inside");
                    }
                }
            }
        });
        assert!(whole > 0 || links > 0, "it was read at least once");
        assert_eq!(fs::read_to_string(canary.join("b/file")).unwrap(), "secret");
    }
}
