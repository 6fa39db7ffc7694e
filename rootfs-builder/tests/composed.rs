//! Composed disks against the tools and the kernel: a copy of the same root, and overlayfs over the same layers.
#![allow(missing_docs)]

mod common;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, symlink};
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use rootfs_builder::cache::Cache;
    use rootfs_builder::composed::{Composed, Composition, Kind, Piece, compose};
    use rootfs_builder::layers::{self, Overlay, Source, Why};
    use rootfs_builder::output::Durability;
    use rootfs_builder::tree::{Keep, Marks, Tree, merge, walk, walk_layer};

    use crate::common::{Described, Mount, assert_same, describe, hard_root, succeeds};

    /// Writes all that a composed disk shows to `image`. Holes in the files stay holes.
    fn materialise(composition: &Composition, layers: &[PathBuf], image: &Path) {
        let layers: Vec<File> = layers.iter().map(|layer| File::open(layer).unwrap()).collect();
        let out = File::create(image).unwrap();
        out.set_len(composition.size()).unwrap();
        let mut at = 0;
        while at < composition.size() {
            let (file, offset, len) = match composition.lookup(at).unwrap() {
                Piece::Zeros { len } => {
                    at += len;
                    continue;
                }
                Piece::Metadata { file_offset, len } => {
                    (composition.file_of_metadata().try_clone().unwrap(), file_offset, len)
                }
                Piece::Data { file, file_offset, len } => {
                    let file = composition.file(file).unwrap();
                    (file.open(&layers[usize::from(file.layer)]).unwrap(), file_offset, len)
                }
            };
            let mut buffer = vec![0; 1 << 20];
            for start in (0..len).step_by(1 << 20) {
                let part = &mut buffer[..usize::try_from((len - start).min(1 << 20)).unwrap()];
                file.read_exact_at(part, offset + start).unwrap();
                if part.iter().any(|byte| *byte != 0) {
                    out.write_all_at(part, at + start).unwrap();
                }
            }
            at += len;
        }
    }

    fn expand(composed: &Composed, image: &Path) {
        materialise(&composed.composition, &composed.layers, image);
        succeeds("fsck.erofs", &[image.to_str().unwrap()]);
    }

    #[test]
    fn a_hard_root_composed_is_what_a_copy_is() {
        let directory = tempfile::tempdir().unwrap();
        let [source, out, image, copy, at] =
            ["source", "out", "image", "copy", "at"].map(|name| directory.path().join(name));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&at).unwrap();
        hard_root(&source);
        let huge = File::create(source.join("huge")).unwrap();
        huge.set_len(5 << 30).unwrap();
        huge.write_all_at(b"end", (5 << 30) - 3).unwrap();
        let composed = compose(std::slice::from_ref(&source), Kind::Plain, &out, Durability::Throwaway)
            .unwrap()
            .unwrap();
        expand(&composed, &image);
        rootfs_builder::erofs::build(&source, &copy).unwrap();
        let metadata = composed.composition.metadata();
        let mut blocks = [&image, &copy].map(|path| {
            let mut bytes = vec![0; usize::try_from(metadata.end - metadata.start).unwrap()];
            File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
            bytes
        });
        assert!(std::mem::take(&mut blocks[0]) == blocks[1], "the metadata is that of a copy");
        fs::remove_file(&copy).unwrap();
        let Some(_mount) = Mount::new("erofs", &image, "loop,ro", &at) else { return };
        assert_same(&source, &at);
    }

    /// What happens to a layer, through the mounted overlay, so that overlayfs makes its own marks.
    #[derive(Clone, Debug)]
    enum Step {
        Write(String, usize),
        Directory(String),
        Remove(String),
        Replace(String),
        Link(String, String),
        Symlink(String),
        Rename(String, String),
        Mode(String, u32),
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
            .prop_map(|parts| parts.join("/"))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (path(), 0..9000_usize).prop_map(|(path, size)| Step::Write(path, size)),
            4 => path().prop_map(Step::Directory),
            3 => path().prop_map(Step::Remove),
            2 => path().prop_map(Step::Replace),
            2 => (path(), path()).prop_map(|(from, to)| Step::Link(from, to)),
            1 => path().prop_map(Step::Symlink),
            2 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
            1 => (path(), 0..0o7777_u32).prop_map(|(path, mode)| Step::Mode(path, mode | 0o700)),
        ]
    }

    /// Each may fail, where the step before made it impossible.
    fn take(step: &Step, root: &Path) {
        let at = |path: &str| root.join(path);
        let remove = |path: PathBuf| match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => drop(fs::remove_dir_all(path)),
            _ => drop(fs::remove_file(path)),
        };
        match step {
            Step::Write(path, size) => drop(fs::write(at(path), vec![7; *size])),
            Step::Directory(path) => drop(fs::create_dir_all(at(path))),
            Step::Remove(path) => remove(at(path)),
            Step::Replace(path) => {
                remove(at(path));
                drop(fs::create_dir_all(at(path)));
            }
            Step::Link(from, to) => drop(fs::hard_link(at(from), at(to))),
            Step::Symlink(path) => drop(symlink("a/b", at(path))),
            Step::Rename(from, to) => drop(fs::rename(at(from), at(to))),
            Step::Mode(path, mode) => {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(*mode);
                drop(fs::set_permissions(at(path), mode));
            }
        }
    }

    /// An overlay over `count` layers in `base`, the last one being written to.
    fn overlay(base: &Path, count: usize) -> Option<Mount> {
        let lowers: Vec<String> =
            (0..count - 1).rev().map(|layer| base.join(layer.to_string()).display().to_string()).collect();
        let work = base.join(format!("work{count}"));
        fs::create_dir(&work).unwrap();
        // As Docker has it; with redirect_dir, renamed directories would be the plain way's.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,redirect_dir=off,metacopy=off",
            lowers.join(":"),
            base.join((count - 1).to_string()).display(),
            work.display()
        );
        Mount::new("overlay", Path::new("overlay"), &options, &base.join("merged"))
    }

    /// Without what overlayfs does not promise: how names share an inode after one was copied up.
    fn comparable(tree: &Tree) -> BTreeMap<PathBuf, Described> {
        let mut all = describe(tree);
        for file in all.values_mut() {
            file.links = 0;
            file.first = PathBuf::new();
        }
        all
    }

    fn same(kernel: &Tree, ours: &Tree, what: &str) {
        let (kernel, ours) = (comparable(kernel), comparable(ours));
        assert_eq!(kernel.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "{what}");
        for (path, file) in &kernel {
            assert_eq!(file, &ours[path], "{path:?}, {what}");
        }
    }

    #[test]
    fn merged_layers_are_what_overlayfs_shows() {
        let steps = prop::collection::vec(step(), 1..25);
        let stack = prop::collection::vec(steps, 2..5);
        let mut runner =
            TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let result = runner.run(&stack, |stack| {
            let directory = tempfile::tempdir().unwrap();
            let base = fs::canonicalize(directory.path()).unwrap();
            fs::create_dir(base.join("merged")).unwrap();
            for (index, steps) in stack.iter().enumerate() {
                fs::create_dir(base.join(index.to_string())).unwrap();
                if index == 0 {
                    steps.iter().for_each(|step| take(step, &base.join("0")));
                    continue;
                }
                let Some(_mount) = overlay(&base, index + 1) else { return Ok(()) };
                steps.iter().for_each(|step| take(step, &base.join("merged")));
                if index + 1 == stack.len() {
                    compare(&base);
                }
            }
            Ok(())
        });
        result.unwrap();
    }

    /// The mounted overlay, all layers merged at once, and in two steps as a guest gets them.
    fn compare(base: &Path) {
        let merged = base.join("merged");
        let kernel = walk(&merged).unwrap().tree;
        let Source::Overlay(Overlay { chain, top, marks, upper }) = layers::of(&merged).unwrap() else {
            panic!("{:?}", layers::of(&merged))
        };
        assert_eq!((marks, upper.as_ref()), (Marks::Trusted, top.last()));
        let trees = |layers: &[PathBuf]| -> Vec<Tree> {
            layers.iter().map(|layer| walk_layer(layer).unwrap().tree).collect()
        };
        let (below, above) = (trees(&chain), trees(&top));
        let all: Vec<Tree> = below.iter().chain(&above).cloned().collect();
        same(&kernel, &merge(&all, marks, Keep::Visible).unwrap(), "at once");
        let two = [merge(&below, marks, Keep::Visible).unwrap(), merge(&above, marks, Keep::Hidden).unwrap()];
        same(&kernel, &merge(&two, Marks::Trusted, Keep::Visible).unwrap(), "in two steps");
    }

    /// The whole way: an overlay's layers as two composed disks, which an overlay joins again.
    #[test]
    fn two_disks_and_an_overlay_are_the_root_again() {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        for name in ["0", "1", "2", "merged", "chain", "top", "again", "cache"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        hard_root(&base.join("0"));
        fs::write(base.join("1/.dockerenv"), "").unwrap();
        let merged = base.join("merged");
        let Some(_overlay) = overlay(&base, 3) else { return };
        fs::remove_dir_all(merged.join("many")).unwrap();
        fs::create_dir(merged.join("many")).unwrap();
        fs::write(merged.join("many/new"), "in an opaque directory").unwrap();
        fs::write(merged.join("a/file"), "changed").unwrap();
        fs::remove_file(merged.join("nothing")).unwrap();
        let Source::Overlay(found) = layers::of(&merged).unwrap() else { panic!() };
        assert_eq!(found.chain, [base.join("0")]);
        assert_eq!(found.top, [base.join("1"), base.join("2")]);
        let chain = Cache::open(&base.join("cache")).unwrap().chain(&found.chain, found.marks).unwrap();
        let top =
            compose(&found.top, Kind::Top(found.marks), &base.join("top.composed"), Durability::Throwaway);
        expand(&chain, &base.join("chain.erofs"));
        expand(&top.unwrap().unwrap(), &base.join("top.erofs"));
        let mount = |name: &str| {
            Mount::new("erofs", &base.join(format!("{name}.erofs")), "loop,ro", &base.join(name))
        };
        let (Some(_chain), Some(_top)) = (mount("chain"), mount("top")) else { return };
        let options = format!("lowerdir={}:{}", base.join("top").display(), base.join("chain").display());
        let Some(_again) = Mount::new("overlay", Path::new("again"), &options, &base.join("again")) else {
            return;
        };
        assert_same(&merged, &base.join("again"));
    }

    #[test]
    fn a_top_with_nothing_in_it_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let [layer, out] = ["layer", "out"].map(|name| directory.path().join(name));
        fs::create_dir(&layer).unwrap();
        let top = |layers: &[PathBuf]| {
            compose(layers, Kind::Top(Marks::Trusted), &out, Durability::Throwaway).unwrap()
        };
        assert!(top(&[]).is_none() && top(std::slice::from_ref(&layer)).is_none() && !out.exists());
        fs::write(layer.join("f"), "").unwrap();
        assert!(top(&[layer]).is_some());
    }

    #[test]
    fn a_root_that_is_no_overlay_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap().join("root");
        fs::create_dir_all(root.join("at")).unwrap();
        assert_eq!(layers::of(&root).unwrap(), Source::Plain { path: root.clone(), why: Why::Directory });
        assert!(
            layers::of(Path::new("/proc/self/cmdline")).is_err()
                && layers::of(Path::new("/nowhere")).is_err()
        );
        let Some(_below) = Mount::new("tmpfs", Path::new("tmpfs"), "size=1m", &root.join("at")) else {
            return;
        };
        let why = Why::MountsBelow(root.join("at"));
        assert_eq!(layers::of(&root).unwrap(), Source::Plain { path: root.clone(), why });
        let why = Why::FileSystem("tmpfs".to_owned());
        assert_eq!(layers::of(&root.join("at")).unwrap(), Source::Plain { path: root.join("at"), why });
    }

    /// What only the kernel can merge is seen, and the merged directory composed instead.
    #[test]
    fn a_renamed_directory_wants_the_plain_way() {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        for name in ["0", "0/d", "1", "work", "merged"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        fs::write(base.join("0/d/f"), "data").unwrap();
        let at = |name: &str| base.join(name).display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={},redirect_dir=on", at("0"), at("1"), at("work"));
        let Some(_mount) = Mount::new("overlay", Path::new("o"), &options, &base.join("merged")) else {
            return;
        };
        fs::rename(base.join("merged/d"), base.join("merged/e")).unwrap();
        let Source::Overlay(found) = layers::of(&base.join("merged")).unwrap() else { panic!() };
        let out = base.join("out");
        let error = compose(&found.top, Kind::Top(found.marks), &out, Durability::Throwaway).unwrap_err();
        assert!(error.wants_plain(), "{error}");
        let plain =
            compose(&[base.join("merged")], Kind::Plain, &out, Durability::Throwaway).unwrap().unwrap();
        expand(&plain, &base.join("image"));
        assert_eq!(plain.composition.files(), 1);
    }
}
