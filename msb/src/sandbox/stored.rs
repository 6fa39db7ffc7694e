//! What is kept of a sandbox in its directory, beside its bundle.
//!
//! ```text
//!  namespaces/NS/NAME/
//!    sandbox.json   Stored, replaced as a whole
//!    lock           held by who makes or removes it
//!    kept           held by its keeper for as long as it runs
//!    config.json    the bundle
//!    rootfs/        where its root is mounted while it runs
//!    upper/ work/   what it wrote, in overlayfs' form
//!    stopped        somebody stopped it: it is not started again by itself
//!    used           held by who uses it, and when that was the last time
//!    log            what its first process wrote
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use msb_runtime::{
    config::Confinement,
    state::{self, Id},
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, Flock, FlockArg, fcntl},
    libc::{F_UNLCK, F_WRLCK, SEEK_SET, SIGTERM, flock},
};
use serde::{Deserialize, Serialize};

use super::{Boot, Exit, Key, Request, bundle::Defaults};

/// Format of the file.
const VERSION: u32 = 1;

/// `sandbox.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    version: u32,
    /// What the runtime calls it; another one each time it is started.
    pub id: String,
    /// Which sandbox it is.
    pub key: Key,
    /// As it was asked for. Ports that were left open are those that it got.
    pub request: Request,
    /// Digest of the image's manifest.
    pub digest: String,
    /// The image's unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// What the image says of how it is run.
    pub defaults: Defaults,
    /// When it was made.
    pub created: SystemTime,
    /// When it was started the last time.
    pub started: Option<SystemTime>,
    /// How and when it ended since.
    pub ended: Option<Ended>,
    /// How long its machine took then.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// What held its VMM back then.
    #[serde(default)]
    pub confinement: Option<Confinement>,
}

/// The end of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As a shell tells it; none: nobody saw it.
    pub code: Option<u8>,
    /// When.
    pub at: SystemTime,
}

impl Ended {
    /// As its callers see it.
    #[must_use]
    pub fn exit(self) -> Option<Exit> {
        self.code.map(|code| Exit::Code(code.into()))
    }
}

/// A sandbox's directory.
#[derive(Debug, Clone)]
pub struct Place(pub PathBuf);

impl Place {
    /// Where the runtime looks for its configuration.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.0
    }

    /// Where its root is mounted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// What it wrote.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    /// What overlayfs needs beside that.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// What its first process wrote to its streams.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What went wrong while it ran.
    #[must_use]
    pub fn warnings(&self) -> PathBuf {
        self.0.join("warnings")
    }

    /// Somebody wants it to end, and not to be started again by itself; or no longer.
    ///
    /// # Errors
    /// The system's.
    pub fn set_stopped(&self, stopped: bool) -> io::Result<()> {
        if stopped {
            return open(&self.0.join(STOPPED)).map(drop);
        }
        match fs::remove_file(self.0.join(STOPPED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.join(STOPPED).exists()
    }

    /// What is kept of it; none: it is no sandbox, or only half of one.
    ///
    /// # Errors
    /// Of reading, or of what was read.
    pub fn load(&self) -> Result<Option<Stored>, state::StateError> {
        state::load(&self.0, NAME)
    }

    /// Replaces that.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, stored: &Stored) -> Result<(), state::StateError> {
        state::save(&self.0, NAME, stored)
    }

    /// Whoever has this makes, starts or removes it, and nobody else.
    ///
    /// # Errors
    /// The system's; that it is not there.
    pub fn lock(&self) -> io::Result<Flock<File>> {
        let path = self.0.join("lock");
        loop {
            let locked = Flock::lock(open(&path)?, FlockArg::LockExclusive)
                .map_err(|(_, errno)| io::Error::from(errno))?;
            let has = locked.metadata()?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (has.dev(), has.ino()) => return Ok(locked),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // It was removed until this was locked, and perhaps made anew.
                _ => {}
            }
        }
    }

    /// Removes all of it; whoever does has it locked. It is gone at once under its name, so that who makes it anew meanwhile
    /// is not in the way, and neither is this.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn remove(&self) -> io::Result<()> {
        let away = self.0.with_file_name(format!("{REMOVED}{}", random_id()?));
        let gone = held(&self.0).and_then(|_held| {
            fs::rename(&self.0, &away)?;
            fs::remove_dir_all(&away)
        });
        // What others left is not this one's trouble: what can't be removed now is tried again the next time.
        let _ = self.0.parent().map_or(Ok(()), sweep);
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What its keeper holds; none: it has one.
    ///
    /// # Errors
    /// The system's; that it is not there.
    pub fn keep(&self) -> io::Result<Option<Kept>> {
        let file = open(&self.0.join(KEPT))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock_of(F_WRLCK))) {
            Ok(_) => {
                let mut held = file;
                // A disk that is full keeps nobody from bringing it to rest; then it is taken for one of here.
                let _ = held.set_len(0).and_then(|()| held.write_all(processes()?.as_bytes()));
                Ok(Some(Kept { _held: held }))
            }
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether it has a keeper. Who only looks holds nothing: a start at that moment must not take it for one.
    ///
    /// # Errors
    /// The system's.
    pub fn is_kept(&self) -> io::Result<bool> {
        let file = match File::open(self.0.join(KEPT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let mut lock = lock_of(F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != F_UNLCK)
    }
}

impl Place {
    /// Whether it has a keeper whose processes can't be seen from here: in another container, where its record is, too.
    ///
    /// # Errors
    /// The system's.
    pub fn is_kept_elsewhere(&self) -> io::Result<bool> {
        Ok(self.is_kept()? && {
            let there = fs::read_to_string(self.0.join(KEPT))?;
            !there.is_empty() && there != processes()?
        })
    }
}

/// All processes that can be seen from here: pid_namespaces(7).
fn processes() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.display().to_string())
}

/// How the names of those begin that are being removed. No sandbox has such a name.
const REMOVED: &str = ".removed-";

/// Who removes a directory has it locked from before it bears such a name until it is gone; none: somebody else has.
fn held(directory: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(directory)?, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(held)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Removes what those left that were killed while they removed.
fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(REMOVED.as_bytes()) {
            let path = entry.path();
            // An error says that its own remover was quicker, or that it stays: each on its own.
            if let Ok(Some(_held)) = held(&path) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
    Ok(())
}

const KEPT: &str = "kept";

/// A sandbox that somebody keeps, for as long as this is there: fcntl(2), "Open file description locks", which can be looked
/// at without being taken.
#[derive(Debug)]
pub struct Kept {
    _held: File,
}

/// A lock of a file from its beginning to its end.
pub(super) fn lock_of(kind: i32) -> flock {
    let word = |word: i32| i16::try_from(word).unwrap_or_default();
    flock { l_type: word(kind), l_whence: word(SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 }
}

const NAME: &str = "sandbox.json";
const STOPPED: &str = "stopped";

fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

impl Stored {
    /// One that was never started.
    ///
    /// # Errors
    /// Without a source of random numbers.
    pub fn new(
        key: Key,
        request: Request,
        digest: String,
        layers: Vec<PathBuf>,
        defaults: Defaults,
    ) -> io::Result<Self> {
        let created = SystemTime::now();
        let id = random_id()?;
        Ok(Self {
            version: VERSION,
            id,
            key,
            request,
            digest,
            layers,
            defaults,
            created,
            started: None,
            ended: None,
            boot: None,
            confinement: None,
        })
    }

    /// What ends it, if its image says nothing else SIGTERM.
    #[must_use]
    pub fn stop_signal(&self) -> i32 {
        super::signal::parse(&self.defaults.stop_signal).unwrap_or(SIGTERM)
    }

    /// What is to be told of it since it was started.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.confinement.and_then(Confinement::warning)
    }

    /// What the runtime calls it.
    ///
    /// # Errors
    /// For one that this program did not write.
    pub fn id(&self) -> Result<Id, state::BadId> {
        self.id.parse()
    }
}

/// 12 hexadecimal digits: short, because it is part of the paths of sockets (unix(7), `sun_path`).
///
/// # Errors
/// The system's.
pub fn random_id() -> io::Result<String> {
    use std::io::Read;

    let mut bytes = [0; 6];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        assert_eq!(place.load().unwrap(), None);
        let key = Key::of("web".parse().unwrap());
        let stored = Stored::new(
            key,
            Request::of("busybox"),
            "sha256:0".into(),
            vec!["/l/1".into()],
            Defaults::default(),
        )
        .unwrap();
        place.save(&stored).unwrap();
        assert_eq!(place.load().unwrap(), Some(stored.clone()));
        for (confinement, word) in [
            (Confinement::Enforced, None),
            (Confinement::Logged, Some("any")),
            (Confinement::Off, Some("root")),
        ] {
            let told = Stored { confinement: Some(confinement), ..stored.clone() }.warning();
            assert_eq!(told.is_some(), word.is_some());
            assert!(word.is_none_or(|word| told.unwrap().contains(word)), "{told:?}");
        }
        stored.id().unwrap();
    }

    #[test]
    fn who_waits_for_one_that_is_removed_finds_that_it_is_gone_or_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().join("web"));
        for again in [false, true] {
            fs::create_dir(&place.0).unwrap();
            fs::write(place.0.join("old"), "").unwrap();
            let lock = place.lock().unwrap();
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| place.lock().map(|_lock| place.0.join("old").exists()));
                std::thread::sleep(std::time::Duration::from_millis(100));
                place.remove().unwrap();
                if again {
                    fs::create_dir(&place.0).unwrap();
                }
                drop(lock);
                match waits.join().unwrap() {
                    Ok(old) => assert!(again && !old),
                    Err(error) => assert!(!again && error.kind() == io::ErrorKind::NotFound, "{error}"),
                }
            });
        }
        place.remove().unwrap();
        place.remove().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_removal_left_goes_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let [web, left, other] = ["web", ".removed-1", ".removed-2"].map(|name| dir.path().join(name));
        for one in [&web, &left, &other] {
            fs::create_dir_all(one.join("upper")).unwrap();
        }
        let removes = held(&other).unwrap().expect("nobody else has it");
        Place(web.clone()).remove().unwrap();
        assert_eq!([web.exists(), left.exists(), other.exists()], [false, false, true]);
        drop(removes);
        Place(web).remove().unwrap();
        assert!(!other.exists());
    }

    #[test]
    fn one_keeper_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place(dir.path().to_owned());
        assert!(!place.is_kept().unwrap());
        let kept = place.keep().unwrap();
        assert!(kept.is_some() && place.keep().unwrap().is_none());
        assert!(place.is_kept().unwrap() && place.is_kept().unwrap(), "who looks takes nothing");
        assert!(!place.is_kept_elsewhere().unwrap());
        fs::write(dir.path().join(KEPT), "pid:[1]").unwrap();
        assert!(place.is_kept_elsewhere().unwrap());
        drop(kept);
        assert!(!place.is_kept().unwrap() && !place.is_kept_elsewhere().unwrap());
        assert!(place.keep().unwrap().is_some());
    }
}
