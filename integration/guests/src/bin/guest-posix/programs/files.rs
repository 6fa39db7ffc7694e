//! A file's data.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::fs::{
    Mode, OFlags, SeekFrom as Seek2, copy_file_range, open, seek, sendfile, statvfs, sync, syncfs,
};

use super::{child, ended};
use crate::run::Runner;

/// `O_APPEND`: what several write at once lies one behind the other.
pub fn append(runner: &mut Runner) -> Result<()> {
    fs::write("f", "")?;
    let mut children = Vec::new();
    for letter in *b"abcd" {
        children.push(child(move || {
            let mut file = File::options().append(true).open("f")?;
            (0..25).try_for_each(|_| file.write_all(&[letter; 10]))?;
            Ok(())
        })?);
    }
    children.into_iter().try_for_each(ended)?;
    let data = fs::read("f")?;
    runner.is("nothing is lost", data.len(), 1000);
    let torn = data.chunks(10).filter(|piece| piece.iter().any(|byte| *byte != piece[0])).count();
    runner.is("nothing is torn", torn, 0);
    Ok(())
}

/// Sparse files.
pub fn holes(runner: &mut Runner) -> Result<()> {
    let file = File::options().read(true).write(true).create_new(true).open("f")?;
    file.write_all_at(b"end", 5 << 30)?;
    runner.is("a size of 5 GiB", file.metadata()?.len(), (5 << 30) + 3);
    runner.is("in few blocks", file.metadata()?.blocks() < 1000, true);
    let mut room = [1; 4];
    file.read_exact_at(&mut room, 1 << 30)?;
    runner.is("a hole is zeros", room, [0; 4]);
    file.set_len(10)?;
    file.write_all_at(&[1; 4096], 1 << 20)?;
    file.sync_all()?;
    runner.is("data is found", seek(&file, Seek2::Data(0)).ok(), Some(1 << 20));
    runner.is("a hole is found", seek(&file, Seek2::Hole(0)).ok(), Some(0));
    runner.is("and its end", seek(&file, Seek2::Hole(1 << 20)).ok(), Some((1 << 20) + 4096));
    runner.fails("none behind it", seek(&file, Seek2::Data(2 << 20)), Errno::ENXIO);
    Ok(())
}

/// copy_file_range(2), sendfile(2), and around the cache.
pub fn copies(runner: &mut Runner) -> Result<()> {
    let bytes: Vec<u8> = (0..150_000_u32).flat_map(u32::to_le_bytes).take(300_000).collect();
    fs::write("f", &bytes)?;
    let (mut from, to) = (File::open("f")?, File::create("g")?);
    let mut left = bytes.len();
    while left > 0 {
        let copied = copy_file_range(&from, None, &to, None, left)?;
        ensure!(copied > 0, "no more is copied");
        left -= copied;
    }
    runner.is("copied by the kernel", fs::read("g")? == bytes, true);
    from.seek(SeekFrom::Start(0))?;
    runner.is("sent", sendfile(File::create("h")?, &from, None, 1000).ok(), Some(1000));
    runner.is("and as it was", fs::read("h")? == bytes[..1000], true);
    let direct = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open("f")?;
    // Aligned as the strictest device asks.
    let mut room = vec![0_u8; 3 * 4096];
    let start = room.as_ptr().align_offset(4096);
    direct.read_exact_at(&mut room[start..start + 4096], 4096)?;
    runner.is("read around the cache", room[start..start + 4096] == bytes[4096..8192], true);
    room[start..start + 4096].fill(7);
    direct.write_all_at(&room[start..start + 4096], 8192)?;
    runner.is("written around it, and seen", fs::read("f")?[8192..12288] == [7; 4096], true);
    let mut appended = File::options().read(true).append(true).open("h")?;
    appended.write_all(b"end")?;
    appended.seek(SeekFrom::End(-3))?;
    let mut end = String::new();
    appended.read_to_string(&mut end)?;
    runner.is("sought from the end", end, "end".to_owned());
    Ok(())
}

/// The largest file that a process may make (setrlimit(2)).
pub fn limits(runner: &mut Runner) -> Result<()> {
    fs::write("f", "12345")?;
    // What the parent is told of is printed by the child as well.
    let mut said = |what: &str, found: bool| runner.is(what, found, true);
    let limited = child(|| {
        ignore(Signal::SIGXFSZ)?;
        setrlimit(Resource::RLIMIT_FSIZE, 4, 4)?;
        let errno = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        let mut file = File::options().write(true).open("f")?;
        ensure!(errno(file.set_len(100)) == Some(libc::EFBIG), "it can be made longer");
        ensure!(file.write(b"123456")? == 4, "not as much as may be is written");
        ensure!(errno(file.write_all(b"5")) == Some(libc::EFBIG), "more is written");
        Ok(())
    })?;
    said("no file beyond the limit", ended(limited).is_ok());
    said("and as much as there may be", fs::read("f")? == b"12345");
    Ok(())
}

#[allow(unsafe_code, reason = "sigaction")]
fn ignore(of: Signal) -> Result<()> {
    // SAFETY: a signal that is ignored runs no code.
    unsafe { signal(of, SigHandler::SigIgn) }?;
    Ok(())
}

/// statvfs(3), and writing all of it out.
pub fn system(runner: &mut Runner) -> Result<()> {
    let found = statvfs(".")?;
    runner.is("names of 255 bytes", found.f_namemax, 255);
    runner.is("sizes", found.f_bsize > 0 && found.f_blocks > 0 && found.f_bavail <= found.f_bfree, true);
    let directory = open(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    sync();
    runner.is("a directory's names are written out", rustix::fs::fsync(&directory).is_ok(), true);
    runner.is("all is written out", syncfs(&directory).is_ok(), true);
    Ok(())
}

/// Each has its own data.
pub fn many_open(runner: &mut Runner) -> Result<()> {
    let mut files = Vec::new();
    for number in 0..300_u32 {
        let file = File::options().read(true).write(true).create_new(true).open(format!("f{number}"))?;
        file.write_all_at(&number.to_le_bytes(), 0)?;
        files.push(file);
    }
    let mut wrong = 0;
    for (number, file) in (0_u32..).zip(&files) {
        let mut room = [0; 4];
        file.read_exact_at(&mut room, 0)?;
        wrong += u32::from(u32::from_le_bytes(room) != number);
    }
    runner.is("300 at the same time", wrong, 0);
    Ok(())
}
