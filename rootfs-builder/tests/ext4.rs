//! Scratch disks against e2fsck and the kernel.
#![allow(missing_docs)]

mod common;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use proptest::prelude::*;
    use rootfs_builder::ext4::{SIZE_MAX, SIZE_MIN, ScratchError, create_scratch};

    use crate::common::{Mount, hard_root, succeeds};

    /// No question asked and nothing to correct.
    fn clean(image: &Path) {
        succeeds("e2fsck", &["-fn", image.to_str().unwrap()]);
    }

    #[test]
    fn e2fsck_finds_nothing_at_any_size() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let group = 128 << 20;
        let edges =
            [SIZE_MIN, group - 1, group, group + 1, group + (3 << 20), 2 * group, 1 << 30, 16 << 30, 1 << 40];
        for size in edges {
            create_scratch(&image, size).unwrap();
            let metadata = fs::metadata(&image).unwrap();
            assert_eq!(metadata.len(), size);
            assert!(
                metadata.blocks() * 512 <= (64 << 10) + size / (1 << 20),
                "{size}: few blocks are written"
            );
            clean(&image);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn e2fsck_finds_nothing(size in SIZE_MIN..64 << 30) {
            let directory = tempfile::tempdir().unwrap();
            let image = directory.path().join("image");
            create_scratch(&image, size).unwrap();
            clean(&image);
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        for size in [0, SIZE_MIN - 1, SIZE_MAX + 1, u64::MAX] {
            assert!(matches!(create_scratch(&image, size), Err(ScratchError::Size { .. })), "{size}");
        }
        assert!(!image.exists());
    }

    /// Writes into every group, so that each one's bitmaps come into being, and looks at the result.
    #[test]
    fn the_kernel_fills_it() {
        let directory = tempfile::tempdir().unwrap();
        let [image, at] = ["image", "at"].map(|name| directory.path().join(name));
        fs::create_dir(&at).unwrap();
        create_scratch(&image, 1 << 30).unwrap();
        {
            let Some(_mount) = Mount::new("ext4", &image, "loop", &at) else { return };
            for index in 0..8 {
                let copy = at.join(index.to_string());
                fs::create_dir(&copy).unwrap();
                hard_root(&copy);
            }
            let file = fs::File::create(at.join("large")).unwrap();
            let length = 750 << 20;
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
            file.sync_all().unwrap();
        }
        clean(&image);
        let Some(_mount) = Mount::new("ext4", &image, "loop", &at) else { return };
        assert_eq!(fs::read(at.join("7/a/file")).unwrap(), b"hello\n");
        assert!(at.join("lost+found").is_dir());
    }

    #[test]
    fn an_overlay_works_upon_it() {
        let directory = tempfile::tempdir().unwrap();
        let [image, at, lower, merged] =
            ["image", "at", "lower", "merged"].map(|name| directory.path().join(name));
        for path in [&at, &lower, &merged] {
            fs::create_dir(path).unwrap();
        }
        hard_root(&lower);
        create_scratch(&image, 256 << 20).unwrap();
        {
            let Some(_mount) = Mount::new("ext4", &image, "loop", &at) else { return };
            let [upper, work] = ["upper", "work"].map(|name| at.join(name));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                lower.display(),
                upper.display(),
                work.display()
            );
            let Some(_overlay) = Mount::new("overlay", Path::new("overlay"), &options, &merged) else {
                return;
            };
            fs::write(merged.join("a/file"), "changed").unwrap();
            fs::remove_dir_all(merged.join("many")).unwrap();
            fs::rename(merged.join("hard"), merged.join("renamed")).unwrap();
            assert_eq!(fs::read(merged.join("a/file")).unwrap(), b"changed");
        }
        clean(&image);
    }
}
