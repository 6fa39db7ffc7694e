//! Layers as nobody should have them, and whatever else an archive may be.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use proptest::prelude::*;
use tar::EntryType;

use super::*;

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
