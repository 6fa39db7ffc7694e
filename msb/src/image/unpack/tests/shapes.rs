//! Layers as images have them: whiteouts, links, owners, modes, times.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use tar::EntryType;

use super::*;

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
