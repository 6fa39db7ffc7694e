//! Write-back of disks that a guest has spoilt, and write-backs that are killed.
#![allow(missing_docs)]

mod common;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use rootfs_builder::ext4::create_scratch;
    use rootfs_builder::tree::walk;
    use rootfs_builder::writeback::{Limits, Options, Rights, WritebackError, apply};

    use crate::common::{Mount, assert_same, hard_root, succeeds};

    const BLOCK: usize = 4096;

    fn options() -> Options {
        Options { rights: Rights::all(), ..Options::default() }
    }

    /// A disk with a hard upper directory, taken while its journal was busy, and where its blocks in use are.
    struct Example {
        keep: tempfile::TempDir,
        used: Vec<u64>,
    }

    impl Example {
        fn image(&self) -> PathBuf {
            self.keep.path().join("image")
        }
    }

    /// Made once; none, with the reason printed, where nothing can be mounted.
    fn example() -> Option<&'static Example> {
        static EXAMPLE: OnceLock<Option<Example>> = OnceLock::new();
        EXAMPLE.get_or_init(make_example).as_ref()
    }

    fn make_example() -> Option<Example> {
        let keep = tempfile::tempdir().unwrap();
        let [image, live, at] = ["image", "live", "at"].map(|name| keep.path().join(name));
        fs::create_dir(&at).unwrap();
        create_scratch(&live, 64 << 20).unwrap();
        {
            let _mount = Mount::new("ext4", &live, "loop", &at)?;
            fs::create_dir(at.join("upper")).unwrap();
            hard_root(&at.join("upper"));
            // Many extents: an index.
            let file = File::create(at.join("upper/scattered")).unwrap();
            for index in 0..2000 {
                file.write_all_at(b"x", index * 8192).unwrap();
            }
            file.sync_all().unwrap();
            fs::remove_dir_all(at.join("upper/a/b")).unwrap();
            File::open(&at).unwrap().sync_all().unwrap();
            succeeds("sync", &["-f", at.to_str().unwrap()]);
            succeeds("cp", &["--sparse=always", live.to_str().unwrap(), image.to_str().unwrap()]);
        }
        let bytes = fs::read(&image).unwrap();
        let used = bytes
            .chunks(BLOCK)
            .zip(0_u64..)
            .filter(|(block, _)| block.iter().any(|byte| *byte != 0))
            .map(|(_, number)| number)
            .collect();
        Some(Example { keep, used })
    }

    /// How a guest spoils a block: some bytes, or all of another block of the disk.
    #[derive(Clone, Debug)]
    enum Spoil {
        Byte(prop::sample::Index, prop::sample::Index, u8),
        Word(prop::sample::Index, prop::sample::Index, u32),
        Block(prop::sample::Index, prop::sample::Index),
    }

    fn spoil() -> impl Strategy<Value = Spoil> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            (index(), index(), any::<u8>()).prop_map(|(block, at, value)| Spoil::Byte(block, at, value)),
            (index(), index(), prop_oneof![Just(0), Just(!0), 0_u32..20_000, any::<u32>()])
                .prop_map(|(block, at, value)| Spoil::Word(block, at, value)),
            (index(), index()).prop_map(|(to, from)| Spoil::Block(to, from)),
        ]
    }

    fn spoil_disk(image: &Path, used: &[u64], spoils: &[Spoil]) {
        let file = fs::OpenOptions::new().read(true).write(true).open(image).unwrap();
        let start = |block: u64| block * 4096;
        for spoil in spoils {
            match spoil {
                Spoil::Byte(block, at, value) => {
                    let at = u64::try_from(at.index(BLOCK)).unwrap();
                    file.write_all_at(&[*value], start(*block.get(used)) + at).unwrap();
                }
                Spoil::Word(block, at, value) => {
                    let at = u64::try_from(at.index(BLOCK / 4) * 4).unwrap();
                    file.write_all_at(&value.to_le_bytes(), start(*block.get(used)) + at).unwrap();
                }
                Spoil::Block(to, from) => {
                    let mut bytes = [0; BLOCK];
                    file.read_exact_at(&mut bytes, start(*from.get(used))).unwrap();
                    file.write_all_at(&bytes, start(*to.get(used))).unwrap();
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]
        /// It comes to an end soon, without a panic; and what it brought stays in the root.
        #[test]
        fn spoilt_disks_are_brought_or_refused(spoils in proptest::collection::vec(spoil(), 1..40)) {
            let Some(example) = example() else { return Ok(()) };
            let directory = tempfile::tempdir().unwrap();
            let [image, outer] = ["image", "outer"].map(|name| directory.path().join(name));
            let root = outer.join("root");
            fs::create_dir_all(&root).unwrap();
            fs::write(outer.join("kept"), "kept").unwrap();
            succeeds("cp", &["--sparse=always", example.image().to_str().unwrap(), image.to_str().unwrap()]);
            spoil_disk(&image, &example.used, &spoils);
            let before = fs::read(&image).unwrap();
            let started = Instant::now();
            let result = apply(&image, &root, &options());
            prop_assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
            if let Err(error) = result {
                // ENAMETOOLONG, EFBIG and the like would be the guest's way to be taken for a host in trouble.
                prop_assert!(error.is_guest() || matches!(error, WritebackError::Host { .. }), "{error:?}");
                if error.is_guest() {
                    prop_assert!(fs::read_dir(&root).unwrap().next().is_none(), "nothing was changed: {error}");
                }
            }
            prop_assert!(before == fs::read(&image).unwrap(), "the disk is as it was");
            prop_assert_eq!(fs::read(outer.join("kept")).unwrap(), b"kept");
            prop_assert_eq!(fs::read_dir(&outer).unwrap().count(), 2);
        }
    }

    #[test]
    fn limits_hold() {
        let Some(example) = example() else { return };
        let root = tempfile::tempdir().unwrap();
        for limits in [
            Limits { names: 100, ..Limits::default() },
            Limits { name_bytes: 1000, ..Limits::default() },
            Limits { depth: 1, ..Limits::default() },
        ] {
            let options = Options { limits, ..options() };
            let error = apply(&example.image(), root.path(), &options).unwrap_err();
            assert!(matches!(error, WritebackError::Limit { .. }) && error.is_guest(), "{error}");
            assert!(fs::read_dir(root.path()).unwrap().next().is_none());
        }
    }

    #[test]
    fn a_missing_disk_is_the_hosts_fault() {
        let root = tempfile::tempdir().unwrap();
        let error = apply(&root.path().join("none"), root.path(), &options()).unwrap_err();
        assert!(!error.is_guest(), "{error}");
        let empty = root.path().join("empty");
        File::create(&empty).unwrap();
        assert!(apply(&empty, root.path(), &options()).unwrap_err().is_guest());
    }

    /// Killed at any moment and run again, it gives the same as if it had not been killed.
    #[test]
    fn a_killed_run_is_repeated() {
        let Some(example) = example() else { return };
        let directory = tempfile::tempdir().unwrap();
        let [whole, root, manifest] = ["whole", "root", "manifest"].map(|name| directory.path().join(name));
        fs::create_dir(&whole).unwrap();
        let started = Instant::now();
        apply(&example.image(), &whole, &options()).unwrap();
        let duration = started.elapsed();
        for part in 0..8 {
            fs::create_dir(&root).unwrap();
            // Something that is in the way.
            hard_root(&root);
            let run = || {
                Command::new(env!("CARGO_BIN_EXE_msb-rootfs"))
                    .arg("writeback")
                    .arg(example.image())
                    .arg(&root)
                    .arg("--manifest")
                    .arg(&manifest)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            };
            let mut child = run();
            std::thread::sleep(duration * part / 6);
            child.kill().unwrap();
            child.wait().unwrap();
            fs::remove_dir_all(root.join("a/b")).unwrap_or_default();
            let options = Options { manifest: Some(manifest.clone()), ..options() };
            apply(&example.image(), &root, &options).unwrap();
            assert_same(&whole, &root);
            let names = walk(&root).unwrap().tree;
            assert!(
                names.nodes().all(|(id, _)| !names.path(id).to_string_lossy().contains(".msb-writeback"))
            );
            fs::remove_dir_all(&root).unwrap();
        }
    }

    /// For the record, not a benchmark: what every stop of a container costs that has written nothing.
    #[test]
    fn an_empty_disk_takes_no_time() {
        let directory = tempfile::tempdir().unwrap();
        let [image, root, at] = ["image", "root", "at"].map(|name| directory.path().join(name));
        for path in [&root, &at] {
            fs::create_dir(path).unwrap();
        }
        create_scratch(&image, 16 << 30).unwrap();
        {
            let Some(_mount) = Mount::new("ext4", &image, "loop", &at) else { return };
            fs::create_dir(at.join("upper")).unwrap();
            fs::create_dir(at.join("work")).unwrap();
            fs::set_permissions(at.join("upper"), fs::metadata(&root).unwrap().permissions()).unwrap();
            succeeds("sync", &["-f", at.to_str().unwrap()]);
            succeeds(
                "cp",
                &["--sparse=always", image.to_str().unwrap(), root.with_file_name("copy").to_str().unwrap()],
            );
        }
        // Of many, as a machine may be busy with something else.
        let best = (0..200)
            .map(|_| {
                let started = Instant::now();
                apply(&root.with_file_name("copy"), &root, &Options::default()).unwrap();
                started.elapsed()
            })
            .min()
            .unwrap();
        println!("an empty upper directory: {best:?}");
        assert!(best < Duration::from_millis(5), "{best:?}");
    }
}
