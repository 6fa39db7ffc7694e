//! The console's log: what the VMM writes of it comes through a pipe, and is bounded here as well, since the process that bounds
//! it there is the one that is not trusted.
//!
//! Enters: bytes of that process. Leaves: at most [`MOST`] of them in the log, and its end once the process is gone.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
};

use nix::{fcntl::OFlag, unistd::pipe2};

/// More than the VMM writes of any console: 96 KiB of the guest's, and lines of its own.
const MOST: usize = 128 << 10;
/// At once.
const PIECE: usize = 4 << 10;
/// Of the thread.
const STACK: usize = 64 << 10;

/// The log, before anybody writes to it.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    from: OwnedFd,
}

/// Who keeps it.
#[derive(Debug)]
pub(super) struct Keeper(Option<JoinHandle<()>>);

impl Log {
    /// Kept in `file`; and where the other process writes.
    pub(super) fn new(file: File) -> io::Result<(Self, OwnedFd)> {
        let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Self { file, from }, to))
    }

    /// Keeps it in a thread of its own, until nobody can write to it any more.
    pub(super) fn keep(self) -> io::Result<Keeper> {
        let Self { file, from } = self;
        let keep = move || copy(File::from(from), file, MOST);
        thread::Builder::new()
            .name("console".into())
            .stack_size(STACK)
            .spawn(keep)
            .map(|thread| Keeper(Some(thread)))
    }
}

impl Drop for Keeper {
    /// Waits until all is there: for when the other process is gone.
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// What comes after `most` bytes is read, so that nobody waits, and is lost.
fn copy(mut from: impl Read, mut log: impl Write, most: usize) {
    let mut room = most;
    let mut piece = [0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                let kept = read.min(room);
                room -= kept;
                // The log is for people, and a full disk must not end the guest.
                let _ = log.write_all(&piece[..kept]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn the_log_is_bounded_and_whole_when_its_keeper_is_gone() {
        let mut file = tempfile::tempfile().unwrap();
        let (log, to) = Log::new(file.try_clone().unwrap()).unwrap();
        let keeper = log.keep().unwrap();
        let mut to = File::from(to);
        to.write_all(b"first\n").unwrap();
        to.write_all(&vec![b'x'; 3 * MOST]).unwrap();
        drop(to);
        drop(keeper);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), MOST);
        assert!(text.starts_with("first\nxxx"));
    }
}
