//! EROFS images against the tools and the kernel, and what a hostile root can try.
#![allow(missing_docs)]

mod common;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rootfs_builder::erofs::{self, BuildError, CopyError};
    use rootfs_builder::tree::{InodeId, Kind, WalkError, walk};
    use rustix::fs::{Mode, OFlags, mkdirat, openat};

    use crate::common::{Described, Mount, assert_same, describe, hard_root, root, succeeds, tool};

    #[test]
    fn fsck_finds_nothing_and_extracts_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let [source, image, out] = ["source", "image", "out"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        hard_root(&source);
        erofs::build(&source, &image).unwrap();
        succeeds("fsck.erofs", &[image.to_str().unwrap()]);
        if tool("dump.erofs", &["--help"]).is_none() {
            return;
        }
        let extract = format!("--extract={}", out.display());
        succeeds("fsck.erofs", &[&extract, "--preserve", image.to_str().unwrap()]);
        // It restores no attributes, hard links, special bits; the test with a mount shows those.
        let [source, out] = [source, out].map(|path| describe(&walk(&path).unwrap().tree));
        assert_eq!(source.keys().collect::<Vec<_>>(), out.keys().collect::<Vec<_>>());
        for (path, file) in source {
            if file.kind.starts_with("Regular") || file.kind.starts_with("directory") {
                let of = |file: &Described| (file.kind.clone(), file.permissions & 0o777);
                assert_eq!(of(&file), of(&out[&path]), "{path:?}");
            }
        }
    }

    #[test]
    fn the_kernel_shows_the_same_root() {
        let directory = tempfile::tempdir().unwrap();
        let [source, image, at] = ["source", "image", "at"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&at).unwrap();
        hard_root(&source);
        let summary = erofs::build(&source, &image).unwrap();
        assert_eq!(summary.size, fs::metadata(&image).unwrap().len());
        let Some(_mount) = Mount::new("erofs", &image, "loop,ro", &at) else { return };
        assert_same(&source, &at);
    }

    #[test]
    fn a_hundred_thousand_files_in_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let [source, image, at] = ["source", "image", "at"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&at).unwrap();
        fs::write(source.join("0"), "one of many").unwrap();
        // Few inodes and many names, or the test would be about the host's file system.
        for index in 1..100_000 {
            let first = index / 50_000 * 50_000;
            if index == first {
                fs::write(source.join(index.to_string()), "another").unwrap();
            } else {
                fs::hard_link(source.join(first.to_string()), source.join(index.to_string())).unwrap();
            }
        }
        assert_eq!(erofs::build(&source, &image).unwrap().inodes, 3);
        succeeds("fsck.erofs", &[image.to_str().unwrap()]);
        let Some(_mount) = Mount::new("erofs", &image, "loop,ro", &at) else { return };
        assert_eq!(fs::read_dir(&at).unwrap().count(), 100_000);
        for index in [0, 1, 9, 49_999, 50_000, 99_999] {
            let name = index.to_string();
            assert_eq!(fs::read(at.join(&name)).unwrap(), fs::read(source.join(&name)).unwrap(), "{name}");
        }
        assert!(!at.join("100000").exists());
    }

    #[test]
    fn a_sparse_file_beyond_four_gigabytes() {
        let directory = tempfile::tempdir().unwrap();
        let [source, image, at] = ["source", "image", "at"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&at).unwrap();
        let file = fs::File::create(source.join("huge")).unwrap();
        let length = 9 << 30;
        file.set_len(length).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", length - 3).unwrap();
        erofs::build(&source, &image).unwrap();
        let metadata = fs::metadata(&image).unwrap();
        assert!(metadata.len() > length && metadata.blocks() * 512 < 1 << 20, "holes stay holes");
        let Some(_mount) = Mount::new("erofs", &image, "loop,ro", &at) else { return };
        let file = fs::File::open(at.join("huge")).unwrap();
        let mut end = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, length - 8).unwrap();
        assert_eq!((&end, file.metadata().unwrap().len()), (b"\0\0\0\0\0end", length));
    }

    #[test]
    fn a_merged_overlay_is_a_root() {
        let directory = tempfile::tempdir().unwrap();
        let [lower, upper, work, merged, image, at] =
            ["lower", "upper", "work", "merged", "image", "at"].map(|name| directory.path().join(name));
        for path in [&lower, &upper, &work, &merged, &at] {
            fs::create_dir(path).unwrap();
        }
        hard_root(&lower);
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let Some(_overlay) = Mount::new("overlay", Path::new("overlay"), &options, &merged) else { return };
        fs::write(merged.join("a/new"), "from above").unwrap();
        fs::remove_dir_all(merged.join("many")).unwrap();
        fs::create_dir(merged.join("many")).unwrap();
        erofs::build(&merged, &image).unwrap();
        let Some(_mount) = Mount::new("erofs", &image, "loop,ro", &at) else { return };
        assert_same(&merged, &at);
        assert_eq!(fs::read_dir(at.join("many")).unwrap().count(), 0);
    }

    #[test]
    fn links_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/", directory.path().join("escape")).unwrap();
        symlink("..", directory.path().join("up")).unwrap();
        let walked = walk(directory.path()).unwrap();
        assert_eq!(walked.tree.inodes(), 3);
        assert!(walked.tree.nodes().skip(1).all(|(_, node)| matches!(node.inode.kind, Kind::Symlink(_))));
    }

    #[test]
    fn a_chain_of_directories_needs_few_descriptors() {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let mut open = openat(rustix::fs::CWD, directory.path(), flags, Mode::empty()).unwrap();
        for _ in 0..2048 {
            mkdirat(&open, "d", Mode::RWXU).unwrap();
            open = openat(&open, "d", flags, Mode::empty()).unwrap();
        }
        assert_eq!(walk(directory.path()).unwrap().tree.inodes(), 2049);
        mkdirat(&open, "d", Mode::RWXU).unwrap();
        assert!(matches!(walk(directory.path()), Err(WalkError::Tree { .. })));
    }

    #[test]
    fn mounts_below_the_root_are_read_and_noted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("at")).unwrap();
        let at = directory.path().join("at");
        let Some(_mount) = Mount::new("tmpfs", Path::new("tmpfs"), "size=1m", &at) else { return };
        fs::write(at.join("file"), "data").unwrap();
        let walked = walk(directory.path()).unwrap();
        assert_eq!(
            walked.mount_points.iter().map(|id| walked.tree.path(*id)).collect::<Vec<_>>(),
            [Path::new("at")]
        );
        assert_eq!(walked.tree.inodes(), 3);
        assert!(walk(&at).unwrap().mount_points.is_empty(), "the root itself may be one");
    }

    #[test]
    fn a_root_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        for bad in ["/nonexistent-root", "/proc/self/cmdline"] {
            let error = erofs::build(Path::new(bad), &image).unwrap_err();
            let BuildError::Walk { source: WalkError::Root { path, .. }, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(path, Path::new(bad));
        }
        assert!(!image.exists());
    }

    #[test]
    fn without_privileges_a_closed_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        fs::set_permissions(directory.path(), mode(0o755)).unwrap();
        fs::set_permissions(&closed, mode(0o000)).unwrap();
        // A thread alone becomes somebody else: root reads everything.
        let walked = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if root() {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
                }
                walk(directory.path())
            });
            thread.join().unwrap()
        });
        assert!(matches!(walked, Err(WalkError::List { path, .. }) if path.as_os_str() == "closed"));
    }

    #[test]
    fn the_same_root_gives_the_same_image() {
        let directory = tempfile::tempdir().unwrap();
        let [source, one, two] = ["source", "one", "two"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        hard_root(&source);
        erofs::build(&source, &one).unwrap();
        erofs::build(&source, &two).unwrap();
        assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
        assert_eq!(walk(&source).unwrap().tree.parent(InodeId::ROOT), InodeId::ROOT);
    }

    /// A root that never holds still gives a sound image or an error that says so, and never anything from outside.
    #[test]
    fn a_root_in_motion() {
        let directory = tempfile::tempdir().unwrap();
        let [source, image] = ["source", "image"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        fs::write(directory.path().join("outside"), [0xee; 5000]).unwrap();
        let stop = AtomicBool::new(false);
        let (mut sound, mut refused) = (0, 0);
        let results = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Each of these may fail when another has just happened: that is the point.
                    let _ = fs::create_dir_all(source.join("d/e"));
                    let _ = fs::write(source.join("d/e/f"), [1; 5000]);
                    let _ = fs::write(source.join("g"), [1; 300_000]);
                    let _ = fs::write(source.join("g"), [1; 200_000]);
                    let _ = fs::remove_file(source.join("d/e/f"));
                    let _ = symlink("../../../outside", source.join("d/e/f"));
                    let _ = fs::rename(source.join("d"), source.join("h"));
                    let _ = symlink("..", source.join("d"));
                    let _ = fs::remove_file(source.join("d"));
                    let _ = fs::remove_dir_all(source.join("h"));
                }
            });
            let results: Vec<_> =
                (0..300).map(|_| erofs::build(&source, &image).map(|_| fs::read(&image).unwrap())).collect();
            stop.store(true, Ordering::Relaxed);
            results
        });
        for result in results {
            match result {
                Ok(bytes) => {
                    sound += 1;
                    assert!(!bytes.windows(16).any(|window| window == [0xee; 16]), "data from outside");
                    if sound % 20 == 1 {
                        fs::write(&image, bytes).unwrap();
                        succeeds("fsck.erofs", &[image.to_str().unwrap()]);
                    }
                }
                Err(BuildError::Walk { source: WalkError::Changed { .. }, .. }) => refused += 1,
                Err(BuildError::Copy { source: CopyError::Changed { .. }, .. }) => refused += 1,
                Err(error) => panic!("{:#}", anyhow::Error::from(error)),
            }
        }
        eprintln!("{sound} images, {refused} refusals");
    }
}
