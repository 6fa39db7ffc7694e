//! Names in directories, and who is told of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::run::Runner;

/// A name is bytes.
pub fn names(runner: &mut Runner) -> Result<()> {
    let names: [&[u8]; 9] =
        [&[b'n'; 255], b"sp ace", b"new\nline", b"\xff\xfe", "ü".as_bytes(), b"-", b"...", b"\x01", b"a\\b"];
    for name in names {
        fs::write(OsStr::from_bytes(name), name)?;
        runner.is("a file has its name", fs::read(OsStr::from_bytes(name))? == name, true);
    }
    let found: BTreeSet<_> = fs::read_dir(".")?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    runner.is("all are listed", found.len(), names.len());
    runner.is("as they are", names.iter().all(|name| found.contains(OsStr::from_bytes(name))), true);
    fs::write("A", "")?;
    runner.is("capitals are others", fs::metadata("a").is_err(), true);
    Ok(())
}

/// Listed once each, with their kinds, also while they go.
pub fn many(runner: &mut Runner) -> Result<()> {
    for number in 0..300 {
        fs::File::create(format!("{number:04}"))?;
    }
    fs::create_dir("d")?;
    std::os::unix::fs::symlink("x", "s")?;
    let mut seen = BTreeSet::new();
    let (mut count, mut wrong) = (0, 0);
    for entry in fs::read_dir(".")? {
        let (entry, name) = entry.and_then(|entry| Ok((entry.file_type()?, entry.file_name())))?;
        let name = name.to_string_lossy().into_owned();
        let kind = match name.as_str() {
            "d" => entry.is_dir(),
            "s" => entry.is_symlink(),
            _ => entry.is_file(),
        };
        wrong += i32::from(!kind);
        if entry.is_file() {
            fs::remove_file(&name)?;
        }
        count += 1;
        seen.insert(name);
    }
    runner.is("each name once", (count, seen.len()), (302, 302));
    runner.is("of its kind", wrong, 0);
    runner.is("and none afterwards", fs::read_dir(".")?.count(), 2);
    Ok(())
}

/// inotify(7), of the container's own changes.
pub fn watches(runner: &mut Runner) -> Result<()> {
    fs::write("f", "")?;
    let watch = Inotify::init(InitFlags::IN_NONBLOCK)?;
    let all = [
        AddWatchFlags::IN_CREATE,
        AddWatchFlags::IN_MODIFY,
        AddWatchFlags::IN_CLOSE_WRITE,
        AddWatchFlags::IN_ATTRIB,
        AddWatchFlags::IN_MOVED_FROM,
        AddWatchFlags::IN_MOVED_TO,
        AddWatchFlags::IN_DELETE,
    ];
    watch.add_watch(".", all.into_iter().collect())?;
    fs::write("new", "x")?;
    fs::set_permissions("new", fs::metadata("f")?.permissions())?;
    fs::rename("new", "newer")?;
    fs::remove_file("newer")?;
    let mut told = Vec::new();
    while let Ok(events) = watch.read_events() {
        told.extend(events.into_iter().map(|event| (event.mask, event.name)));
    }
    for (kind, name) in all.into_iter().zip(["new", "new", "new", "new", "new", "newer", "newer"]) {
        let known =
            told.iter().any(|(mask, of)| mask.contains(kind) && of.as_deref() == Some(OsStr::new(name)));
        runner.is(&format!("{kind:?} of {name} is told"), known, true);
    }
    Ok(())
}
