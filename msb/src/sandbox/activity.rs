//! Whether anybody uses a sandbox, for one that is to end when nobody does.
//!
//! Who uses it holds a lock of one of its files, shared with all others, and leaves the time there at the end: whoever asks
//! needs no word of theirs, and one that was killed holds nothing. The time is that since the host's start: a clock that somebody
//! sets would end who is used, and let who is not go on for as long as it was set back.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::stored::{Place, lock_of};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc::{F_RDLCK, F_UNLCK, F_WRLCK},
    time::{ClockId, clock_gettime},
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
    file.set_modified(now()?)
}

/// As a file's time, which has nothing to do with a date then.
fn now() -> io::Result<SystemTime> {
    Ok(UNIX_EPOCH + Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

/// For how long nobody has used it; none: somebody does.
///
/// # Errors
/// The system's; that nobody ever has.
pub fn idle(place: &Place) -> io::Result<Option<Duration>> {
    let file = File::open(place.0.join(NAME))?;
    let mut lock = lock_of(F_WRLCK);
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    if i32::from(lock.l_type) != F_UNLCK {
        return Ok(None);
    }
    let last = file.metadata()?.modified()?;
    Ok(Some(now()?.duration_since(last).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_is_idle_when_the_last_one_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        idle(&place).unwrap_err();
        let first = InUse::begin(&place).unwrap();
        let second = InUse::begin(&place).unwrap();
        drop(first);
        assert_eq!(idle(&place).unwrap(), None);
        let used = Instant::now();
        drop(second);
        std::thread::sleep(Duration::from_millis(30));
        let since = idle(&place).unwrap().unwrap();
        assert!(since >= Duration::from_millis(30) && since <= used.elapsed(), "{since:?}");
    }

    #[test]
    fn no_date_is_kept_that_a_clock_could_belie() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        drop(InUse::begin(&place).unwrap());
        let kept = std::fs::metadata(dir.path().join(NAME)).unwrap().modified().unwrap();
        let up = std::fs::read_to_string("/proc/uptime").unwrap();
        let up: f64 = up.split(' ').next().unwrap().parse().unwrap();
        // A host that sleeps is up meanwhile, and nobody's time is used.
        assert!(kept.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() <= up + 0.1);
        // Left by whoever kept dates.
        File::open(dir.path().join(NAME)).unwrap().set_modified(SystemTime::now()).unwrap();
        assert_eq!(idle(&place).unwrap(), Some(Duration::ZERO));
    }
}
