//! The log of a server in the background, which nobody else keeps: a file that is put aside when it is long, so that no more
//! than two of them are ever there, however much callers have it say.
//!
//! Enters: the file's path, and whether a process's stderr is that file. Leaves: a file to write to. It knows nothing of what is
//! written.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    sys::stat::{fstat, stat},
    unistd::dup2_stderr,
};

/// Bytes of a log that is put aside before the next server writes to it.
const LONG: u64 = 8 << 20;
/// Bytes of one that is put aside while a server writes to it. Who starts a server looks for its first lines behind what was
/// there, so that it must have room for them.
const MOST: u64 = 2 * LONG;

/// The log at `path` for a server that is to begin, and how many bytes are in it already.
///
/// # Errors
/// Of the file system.
pub fn begin(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LONG) {
        put_aside(path)?;
    }
    let log = open(path)?;
    let before = log.metadata()?.len();
    Ok((log, before))
}

/// The log that this process writes to.
#[derive(Debug)]
pub(super) struct Own(PathBuf);

impl Own {
    /// The one at `path`, if stderr is that: of a server in the foreground it is somebody else's.
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        let (written, there) = (fstat(io::stderr()).ok()?, stat(&path).ok()?);
        ((written.st_dev, written.st_ino) == (there.st_dev, there.st_ino)).then_some(Self(path))
    }

    /// Goes on in a new one, if it is long. Who holds stderr writes to it alone.
    ///
    /// # Errors
    /// Of the file system. What is written goes where it went, and the next call tries it again.
    pub(super) fn turn(&self, stderr: &impl AsFd) -> io::Result<()> {
        self.turn_to(stderr, |new| Ok(dup2_stderr(new)?))
    }

    fn turn_to(&self, written: &impl AsFd, take: impl FnOnce(File) -> io::Result<()>) -> io::Result<()> {
        if u64::try_from(fstat(written)?.st_size).is_ok_and(|length| length <= MOST) {
            return Ok(());
        }
        put_aside(&self.0)?;
        take(open(&self.0)?)
    }
}

/// Also where that has been done before, and then no new one could be had.
fn put_aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, path.with_extension("log.old")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn there_are_never_more_than_two() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".server.log");
        let (mut log, before) = begin(&path).unwrap();
        assert_eq!(before, 0);
        let own = Own(path.clone());
        for text in ["first", "second", "third"] {
            let mut taken = None;
            let mut turn = |log: &File| {
                own.turn_to(log, |new| {
                    taken = Some(new);
                    Ok(())
                })
            };
            turn(&log).unwrap();
            log.write_all(text.as_bytes()).unwrap();
            log.set_len(MOST).unwrap();
            turn(&log).unwrap();
            log.set_len(MOST + 1).unwrap();
            turn(&log).unwrap();
            log = taken.expect("a new one once it is long");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let old = fs::read(dir.path().join(".server.log.old")).unwrap();
        assert!(old.starts_with(b"third"));
    }

    #[test]
    fn one_that_was_put_aside_in_vain_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".server.log");
        let (log, _) = begin(&path).unwrap();
        log.set_len(MOST + 1).unwrap();
        let own = Own(path.clone());
        own.turn_to(&log, |_| Err(io::Error::other("no descriptor"))).unwrap_err();
        fs::remove_file(&path).unwrap();
        own.turn_to(&log, |_| Ok(())).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn a_server_begins_with_a_short_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".server.log");
        let (log, _) = begin(&path).unwrap();
        log.set_len(LONG).unwrap();
        assert_eq!(begin(&path).unwrap().1, LONG);
        log.set_len(LONG + 1).unwrap();
        assert_eq!(begin(&path).unwrap().1, 0);
        assert!(dir.path().join(".server.log.old").exists());
    }

    #[test]
    fn what_somebody_else_keeps_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".server.log");
        assert!(Own::at(path.clone()).is_none());
        begin(&path).unwrap();
        assert!(Own::at(path).is_none());
    }
}
