//! Whether anybody uses a sandbox, for one that is to end when nobody does.
//!
//! Who uses it holds a lock of one of its files, shared with all others, and leaves the time there at the end: whoever asks
//! needs no word of theirs, and one that was killed holds nothing.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    time::SystemTime,
};

use super::stored::{Place, lock_of};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc::{F_RDLCK, F_UNLCK, F_WRLCK},
};

const NAME: &str = "used";

/// For as long as this is there, the sandbox is in use.
#[derive(Debug)]
pub struct InUse(File);

impl InUse {
    /// From now on.
    ///
    /// # Errors
    /// The system's; that the sandbox is not there.
    pub fn begin(place: &Place) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = file.open(place.0.join(NAME))?;
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_of(F_RDLCK)))?;
        touch(&file)?;
        Ok(Self(file))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Without it, it was last used when this began.
        let _ = touch(&self.0);
    }
}

fn touch(file: &File) -> io::Result<()> {
    file.set_modified(SystemTime::now())
}

/// Since when nobody uses it; none: somebody does.
///
/// # Errors
/// The system's; that nobody ever has.
pub fn idle_since(place: &Place) -> io::Result<Option<SystemTime>> {
    let file = File::open(place.0.join(NAME))?;
    let mut lock = lock_of(F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if i32::from(lock.l_type) != F_UNLCK {
        return Ok(None);
    }
    file.metadata()?.modified().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_idle_when_the_last_one_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        idle_since(&place).unwrap_err();
        let began = SystemTime::now();
        let first = InUse::begin(&place).unwrap();
        let second = InUse::begin(&place).unwrap();
        drop(first);
        assert_eq!(idle_since(&place).unwrap(), None);
        drop(second);
        assert!(idle_since(&place).unwrap().unwrap() >= began);
    }
}
