//! Layers as images have them, and as nobody should.
//!
//! Whiteouts and owners need root and a file system that has them: where there are none, the tests say so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// Layers, each unpacked over those before.
struct Stack {
    directory: TempDir,
    layers: Vec<PathBuf>,
}

impl Stack {
    /// None where no layer can be made, with the reason on the test's output.
    fn new(test: &str) -> Option<Self> {
        // Of the build: a temporary directory of the system may be an overlay or a tmpfs.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image-tests");
        fs::create_dir_all(&target).unwrap();
        let directory = TempDir::new_in(target).unwrap();
        let mode = rustix::fs::Mode::empty();
        let kind = rustix::fs::FileType::CharacterDevice;
        let probe = directory.path().join("probe");
        if let Err(error) = rustix::fs::mknodat(rustix::fs::CWD, &probe, kind, mode, 0) {
            integration::dev::test::skipped(
                test,
                &format!("no whiteout can be made here ({error}): run it as root"),
            );
            return None;
        }
        Some(Self { directory, layers: Vec::new() })
    }

    fn add(&mut self, layer: &[u8]) -> Result<PathBuf, UnpackError> {
        self.add_limited(layer, Limits::default())
    }

    fn add_limited(&mut self, layer: &[u8], limits: Limits) -> Result<PathBuf, UnpackError> {
        let into = self.directory.path().join(self.layers.len().to_string());
        let _old = fs::remove_dir_all(&into);
        fs::create_dir(&into).unwrap();
        unpack(layer, Digest::of(layer), &into, &self.layers, limits)?;
        self.layers.push(into.clone());
        Ok(into)
    }
}

/// An archive in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(name: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let field = &mut header.as_gnu_mut().unwrap().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header
    }

    fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.raw(Self::header(name, EntryType::Regular, data.len() as u64), data.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.raw(Self::header(name, EntryType::Directory, 0), &[])
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(name, kind, 0);
        header.set_link_name_literal(target).unwrap();
        self.raw(header, &[])
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn pax(mut self, pairs: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(pairs.iter().copied()).unwrap();
        self
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// All of a layer: `w` a whiteout, `o` an opaque directory, `d` another one, `->` a link, else a file's content.
fn listing(layer: &Path) -> BTreeMap<String, String> {
    fn walk(at: &Path, root: &Path, to: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                walk(&path, root, to);
                if is_opaque(&path) { "o".into() } else { "d".into() }
            } else if kind.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else if kind.is_char_device() && metadata.rdev() == 0 {
                "w".into()
            } else if kind.is_file() {
                fs::read_to_string(&path).unwrap()
            } else {
                "?".into()
            };
            to.insert(path.strip_prefix(root).unwrap().display().to_string(), what);
        }
    }
    let mut to = BTreeMap::new();
    walk(layer, layer, &mut to);
    to
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 2];
    rustix::fs::lgetxattr(path, view::OPAQUE, &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

fn shows(layer: &Path, wanted: &[(&str, &str)]) {
    let wanted: BTreeMap<String, String> =
        wanted.iter().map(|(path, what)| ((*path).into(), (*what).into())).collect();
    assert_eq!(listing(layer), wanted);
}

#[test]
fn whiteouts_hide_what_is_below_in_any_order() {
    let Some(mut stack) = Stack::new("whiteouts_hide_what_is_below_in_any_order") else { return };
    let base = Tar::new().directory("d").file("d/a", "a").file("d/b", "b").directory("e").file("e/x", "x");
    stack.add(&base.file("f", "f").done()).unwrap();
    let layer = Tar::new().file("d/.wh.a", "").file("d/c", "c").file("e/y", "y").file("e/.wh..wh..opq", "");
    let layer = stack.add(&layer.file(".wh.f", "").file(".wh.nothing", "").done()).unwrap();
    shows(&layer, &[("d", "d"), ("d/a", "w"), ("d/c", "c"), ("e", "o"), ("e/y", "y"), ("f", "w")]);
}

#[test]
fn a_name_that_a_layer_has_itself_is_not_hidden_by_it() {
    let Some(mut stack) = Stack::new("a_name_that_a_layer_has_itself_is_not_hidden_by_it") else { return };
    stack.add(&Tar::new().file("d/x", "1").file("e/x", "1").file("f", "1").file("g", "1").done()).unwrap();
    // A whiteout before or behind what has its name means the same.
    let layer = Tar::new().file("d/y", "2").file(".wh.d", "").file(".wh.e", "").file("e/y", "2");
    let layer = layer.file(".wh.f", "").file("f", "2").file("g", "2").file(".wh.g", "");
    let layer = stack.add(&layer.done()).unwrap();
    let wanted = [("d", "o"), ("d/y", "2"), ("e", "o"), ("e/y", "2"), ("f", "2"), ("g", "2")];
    shows(&layer, &wanted);
}

#[test]
fn parents_are_found_through_links_of_layers_below() {
    let Some(mut stack) = Stack::new("parents_are_found_through_links_of_layers_below") else { return };
    let base = Tar::new().directory("usr/lib").symlink("lib", "usr/lib").symlink("abs", "/usr/../usr/lib");
    stack.add(&base.symlink("out", "../../../../../../tmp").done()).unwrap();
    let layer = Tar::new().file("lib/a", "a").file("abs/b", "b").file("out/c", "c").done();
    let layer = stack.add(&layer).unwrap();
    let lib = [("usr", "d"), ("usr/lib", "d"), ("usr/lib/a", "a"), ("usr/lib/b", "b")];
    shows(&layer, &[&lib[..], &[("tmp", "d"), ("tmp/c", "c")]].concat());
    // A whiteout of a link hides the link, and then there is none.
    let layer = Tar::new().file(".wh.lib", "").file("lib/x", "x").done();
    shows(&stack.add(&layer).unwrap(), &[("lib", "o"), ("lib/x", "x")]);
    let layer = Tar::new().file("lib/z", "z").done();
    shows(&stack.add(&layer).unwrap(), &[("lib", "d"), ("lib/z", "z")]);
}

#[test]
fn directories_that_only_layers_below_have_are_made_as_they_are_there() {
    let Some(mut stack) = Stack::new("directories_that_only_layers_below_have_are_made_as_they_are_there")
    else {
        return;
    };
    let mut root = Tar::header("./", EntryType::Directory, 0);
    root.set_mode(0o711);
    let mut spool = Tar::header("var/spool", EntryType::Directory, 0);
    spool.set_mode(0o3775);
    spool.set_uid(7);
    spool.set_gid(3_000_000);
    let attribute: &[(&str, &[u8])] = &[("SCHILY.xattr.user.kept", b"\n\0")];
    let layer = stack.add(&Tar::new().raw(root, &[]).pax(attribute).raw(spool, &[]).done()).unwrap();
    assert_eq!(layer.metadata().unwrap().mode() & 0o7777, 0o711);
    for _ in 0..2 {
        let layer = stack.add(&Tar::new().file("var/spool/mail", "").done()).unwrap();
        assert_eq!(layer.metadata().unwrap().mode() & 0o7777, 0o711);
        let spool = layer.join("var/spool");
        let metadata = spool.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (7, 3_000_000, 0o3775));
        assert_eq!(metadata.mtime(), 1_000_000_000);
        let mut value = [0; 8];
        assert_eq!(rustix::fs::lgetxattr(&spool, "user.kept", &mut value[..]), Ok(2));
    }
}

#[test]
fn hard_links_to_files_below_are_copies_that_are_one_file() {
    let Some(mut stack) = Stack::new("hard_links_to_files_below_are_copies_that_are_one_file") else {
        return;
    };
    let mut tool = Tar::header("bin/tool", EntryType::Regular, 4);
    tool.set_mode(0o4755);
    let base =
        stack.add(&Tar::new().raw(tool, b"tool").symlink("b", "bin").symlink("l", "nowhere").done()).unwrap();
    let layer = Tar::new().hard("bin/two", "b/tool").hard("three", "/bin/two").hard("m", "l").done();
    let layer = stack.add(&layer).unwrap();
    let all = [("bin", "d"), ("bin/tool", "tool"), ("bin/two", "tool"), ("three", "tool")];
    shows(&layer, &[&all[..], &[("l", "-> nowhere"), ("m", "-> nowhere")]].concat());
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(inode(&layer.join("bin/tool")), inode(&layer.join("three")));
    assert_ne!(inode(&layer.join("bin/tool")), inode(&base.join("bin/tool")));
    assert_eq!(layer.join("three").metadata().unwrap().mode() & 0o7777, 0o4755);
    // Renamed: linked, and the old name hidden.
    let layer = stack.add(&Tar::new().hard("four", "bin/tool").file("bin/.wh.tool", "").done()).unwrap();
    shows(&layer, &[("bin", "d"), ("bin/tool", "w"), ("four", "tool")]);
    for bad in [
        Tar::new().hard("x", "nothing"),
        Tar::new().hard("x", "bin"),
        Tar::new().hard("x", "../x"),
        Tar::new().file("x", "").hard("x", "x"),
        Tar::new().file(".wh.three", "").hard("x", "three"),
    ] {
        stack.add(&bad.done()).unwrap_err();
    }
}

#[test]
fn files_replace_directories_and_back() {
    let Some(mut stack) = Stack::new("files_replace_directories_and_back") else { return };
    stack.add(&Tar::new().file("d/below", "1").file("f", "1").done()).unwrap();
    let layer = Tar::new().file("d/x", "x").file("d", "file").file("d/y", "y");
    // A file on the way to another one.
    stack.add(&layer.done()).unwrap_err();
    let layer = Tar::new().file("d/x", "x").file("d", "file").directory("d").file("d/y", "y");
    let layer = layer.directory("f").file("f/in", "2").file("n", "1").file("n", "2");
    let layer = stack.add(&layer.done()).unwrap();
    shows(&layer, &[("d", "o"), ("d/y", "y"), ("f", "d"), ("f/in", "2"), ("n", "2")]);
}

#[test]
fn an_opaque_root_hides_each_name_below() {
    let Some(mut stack) = Stack::new("an_opaque_root_hides_each_name_below") else { return };
    stack.add(&Tar::new().file("d/x", "").file("f", "").file("g", "").done()).unwrap();
    let layer =
        stack.add(&Tar::new().file("d/y", "y").file("g", "g").file(".wh..wh..opq", "").done()).unwrap();
    shows(&layer, &[("d", "o"), ("d/y", "y"), ("f", "w"), ("g", "g")]);
}

#[test]
fn what_overlayfs_keeps_for_itself_is_not_taken_from_an_archive() {
    let Some(mut stack) = Stack::new("what_overlayfs_keeps_for_itself_is_not_taken_from_an_archive") else {
        return;
    };
    let attributes: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.security.selinux", b"x"),
        ("SCHILY.xattr.user.mine", b"1"),
    ];
    let layer = Tar::new().pax(attributes).directory("d").pax(attributes).file("f", "").done();
    let layer = stack.add(&layer).unwrap();
    for name in ["d", "f"] {
        let mut list = [0; 1000];
        let length = rustix::fs::llistxattr(layer.join(name), &mut list[..]).unwrap();
        let text = String::from_utf8_lossy(&list[..length]).into_owned();
        assert!(!text.contains("overlay") && text.contains("user.mine"), "{text}");
    }
    let mut forged = Tar::header("w", EntryType::Char, 0);
    forged.set_device_major(0).unwrap();
    forged.set_device_minor(0).unwrap();
    stack.add(&Tar::new().raw(forged, &[]).done()).unwrap_err();
}

#[test]
fn attacks_are_refused_and_nothing_is_made_outside() {
    let Some(mut stack) = Stack::new("attacks_are_refused_and_nothing_is_made_outside") else { return };
    let outside = stack.directory.path().join("outside");
    fs::write(&outside, "untouched").unwrap();
    let link = outside.to_str().unwrap().to_owned();
    for (what, archive) in [
        ("up", Tar::new().file("../outside", "x")),
        ("up later", Tar::new().file("a/../../outside", "x")),
        ("up through a directory", Tar::new().directory("a").file("a/../../outside", "x")),
        ("hard link up", Tar::new().hard("x", "../outside")),
        ("whiteout up", Tar::new().file(".wh...", "")),
        ("whiteout of all", Tar::new().file(".wh..", "")),
        ("links in a circle", Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "x")),
        ("root as a file", Tar::new().file("./", "x").symlink(".", "/etc")),
        ("an empty link", Tar::new().symlink("a", "")),
        ("deep", Tar::new().pax(&[("path", "a/".repeat(1000).as_bytes())]).file("a", "")),
        ("long", Tar::new().pax(&[("path", "a".repeat(256).as_bytes())]).file("a", "")),
        ("sparse in pax", Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("a", "")),
        ("an owner too high", Tar::new().pax(&[("uid", b"4294967295")]).file("a", "")),
        ("a size too big", Tar::new().pax(&[("size", b"18446744073709551615")]).file("a", "")),
        ("no kind", Tar::new().raw(Tar::header("a", EntryType::new(b'Z'), 0), &[])),
    ] {
        assert!(stack.add(&archive.done()).is_err(), "{what}");
    }
    // Over a link, never through it.
    let archive =
        Tar::new().symlink("l", &link).file("l", "mine").symlink("m", "..").file("m/outside", "mine");
    let layer = stack.add(&archive.done()).unwrap();
    shows(&layer, &[("l", "mine"), ("m", "-> .."), ("outside", "mine")]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

#[test]
fn no_more_than_the_limits() {
    let Some(mut stack) = Stack::new("no_more_than_the_limits") else { return };
    let limits = Limits { entries: 3, bytes: 1 << 20 };
    let many = (0..4).fold(Tar::new(), |tar, n| tar.file(&n.to_string(), ""));
    let error = stack.add_limited(&many.done(), limits).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "entries", .. }), "{error}");
    let zeros = String::from_utf8(vec![0; 2 << 20]).unwrap();
    let big = Tar::new().file("big", &zeros).done();
    let error = stack.add_limited(&big, limits).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "bytes", .. }), "{error}");
    // And compressed, where little becomes much.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&big).unwrap();
    let error = stack.add_limited(&gzip.finish().unwrap(), limits).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "bytes", .. }), "{error}");
}

#[test]
fn content_that_is_not_what_was_said_does_not_count() {
    let Some(stack) = Stack::new("content_that_is_not_what_was_said_does_not_count") else { return };
    let into = stack.directory.path().join("x");
    fs::create_dir(&into).unwrap();
    let layer = Tar::new().file("a", "a").done();
    let error = unpack(&*layer, Digest::of(b"other"), &into, &[], Limits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::DiffId { .. }), "{error}");
}

/// What `tar` makes of it, on the same machine, is the same: kinds, owners, modes, times, links, holes, content.
#[test]
fn an_ordinary_archive_is_unpacked_as_tar_does() {
    let Some(mut stack) = Stack::new("an_ordinary_archive_is_unpacked_as_tar_does") else { return };
    let source = stack.directory.path().join("source");
    let made = "mkdir -p $0/a/b $0/empty && cd $0 && echo hi >a/f && ln a/f a/g && ln -s ../f a/b/s && mkfifo p \
        && chmod 4711 a/f && chown -h 5:6 a/b/s && chown 100000:7 empty && chmod 1777 empty && truncate -s 5M hole \
        && echo end >>hole && mknod n c 1 3 && touch -d '1960-01-01 UTC' empty && n=$(printf '%0180d' 1) && echo l >a/$n \
        && ln -s $n$n a/long && setfacl -m u:9:r hole 2>/dev/null; touch -d @1.25 a/f a";
    assert!(Command::new("sh").args(["-c", made]).arg(&source).status().unwrap().success());
    for format in [&["--format=pax"][..], &["--format=gnu"], &["--format=gnu", "--sparse"]] {
        let tar = Command::new("tar")
            .args(format)
            .args(["-C", source.to_str().unwrap(), "-c", "."])
            .output()
            .unwrap();
        let plain = stack.directory.path().join("plain");
        let _old = fs::remove_dir_all(&plain);
        fs::create_dir(&plain).unwrap();
        let mut child = Command::new("tar")
            .args(["--numeric-owner", "-p", "-x", "-C"])
            .arg(&plain)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        assert!(child.wait().unwrap().success());
        stack.layers.clear();
        let ours = stack.add(&tar.stdout).unwrap();
        let show = |root: &Path| {
            let line = "%P %y %m %U %G %s %T@ %l %n\\n";
            let find = Command::new("find").arg(root).args(["-printf", line]).output().unwrap();
            let mut lines: Vec<String> =
                String::from_utf8_lossy(&find.stdout).lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(show(&ours), show(&plain), "{format:?}");
        let different =
            Command::new("diff").args(["-r", "--no-dereference"]).args([&ours, &plain]).output().unwrap();
        let text = String::from_utf8_lossy(&different.stdout).into_owned();
        // A pipe cannot be compared.
        assert!(
            text.lines().all(|line| line.contains("fifo") || line.contains("character special")),
            "{text}"
        );
        assert!(
            ours.join("hole").metadata().unwrap().blocks()
                <= plain.join("hole").metadata().unwrap().blocks() + 8
        );
    }
}

fn names() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("a"),
        Just("b"),
        Just(".."),
        Just("."),
        Just(""),
        Just(".wh.a"),
        Just(".wh.b"),
        Just(".wh..wh..opq"),
        Just(".wh.")
    ];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    let entry = (0..5_u8, names(), names());
    proptest::collection::vec(entry, 0..12).prop_map(|entries| {
        entries
            .into_iter()
            .fold(Tar::new(), |tar, (kind, name, target)| match kind {
                0 => tar.directory(&name),
                1 => tar.symlink(&name, &target),
                2 => tar.hard(&name, &target),
                _ => tar.file(&name, &target),
            })
            .done()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an archive says, what it does is done within its own directory, and what is below stays as it is.
    #[test]
    fn no_archive_gets_out(base in archive(), layer in archive(), cut in any::<proptest::sample::Index>()) {
        let Some(mut stack) = Stack::new("no_archive_gets_out") else { return Ok(()) };
        let below = stack.add(&base).is_ok();
        let before: Vec<_> = stack.layers.iter().map(|layer| listing(layer)).collect();
        if stack.add(&layer).is_ok() && below {
            for path in listing(&stack.layers[1]).keys() {
                prop_assert!(!path.contains(".wh."), "{}", path);
            }
        }
        let _refused = stack.add(&layer[..cut.index(layer.len())]);
        let mut there: Vec<_> =
            fs::read_dir(stack.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.retain(|name| name != "probe" && name.as_bytes().iter().any(|byte| !byte.is_ascii_digit()));
        prop_assert!(there.is_empty(), "{:?}", there);
        for (layer, before) in stack.layers.iter().zip(before) {
            prop_assert_eq!(listing(layer), before);
        }
    }

    /// Noise is refused without a panic, and without more memory than it is long.
    #[test]
    fn noise_is_no_archive(noise in proptest::collection::vec(any::<u8>(), 0..2000), at in any::<proptest::sample::Index>()) {
        let Some(mut stack) = Stack::new("noise_is_no_archive") else { return Ok(()) };
        let mut layer = Tar::new().pax(&[("path", b"x")]).file("a", "a").symlink("b", "a").done();
        let start = at.index(layer.len());
        for (byte, noise) in layer[start..].iter_mut().zip(&noise) {
            *byte ^= noise;
        }
        let _refused = stack.add(&layer);
        let _refused = stack.add(&noise);
    }
}

#[test]
fn modes_are_kept() {
    let Some(mut stack) = Stack::new("modes_are_kept") else { return };
    let mut header = Tar::header("tool", EntryType::Regular, 0);
    header.set_mode(0o6755);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let attribute: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", &capability)];
    let layer = stack.add(&Tar::new().pax(attribute).raw(header, &[]).done()).unwrap();
    let tool = layer.join("tool");
    assert_eq!(tool.metadata().unwrap().permissions().mode() & 0o7777, 0o6755);
    let mut value = [0; 32];
    let length = rustix::fs::lgetxattr(&tool, "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
}
