//! All sandboxes of a home: found, started, stopped, renamed, removed. They are made in [`super::create`], and what runs is kept
//! elsewhere ([`super::keep`]).

use std::{
    error::Error,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use msb_runtime::{
    sandbox::{Log, child::Moments},
    state::{Entry, StateError, Status, Store},
    verbs::{Context, Tell, kill, words},
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    libc::{SIGKILL, SIGTERM},
};

use super::{
    Failure, Key, Logs, Request, Restart, Since, State, Where,
    create::directories,
    keep, root,
    stored::{Place, Stored},
    usage::Readings,
};
use crate::{home::Home, name::Name};

/// How long a sandbox has to end by itself.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long one that was killed has: what it wrote is brought back then.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often one that somebody starts again meanwhile is stopped for its removal.
const TRIES: u32 = 5;
/// How often an end is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// The sandboxes of a home.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    home: Home,
    store: Store,
    readings: Arc<Readings>,
}

/// What the runtime says beside its results goes into a file of the sandbox's; when its machine was how far, to who asks.
#[derive(Debug)]
struct Beside {
    warnings: PathBuf,
    moments: Arc<OnceLock<Moments>>,
}

impl Tell for Beside {
    fn warn(&self, problem: &(dyn Error + 'static)) {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.warnings);
        // There is nowhere else to tell it.
        let _ = file.and_then(|mut file| writeln!(file, "{}", words::chain(problem)));
    }

    fn log(&self) -> Option<Log> {
        Some(Log { path: self.warnings.clone(), json: false })
    }

    fn moments(&self, moments: &Moments) {
        // There is one machine.
        let _ = self.moments.set(*moments);
    }
}

impl Sandboxes {
    /// Of that home.
    #[must_use]
    pub fn new(home: Home) -> Self {
        let store = Store::new(home.run());
        Self { home, store, readings: Arc::default() }
    }

    /// Where they are.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The runtime's records of those that run.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn readings(&self) -> &Readings {
        &self.readings
    }

    /// The directory of one.
    #[must_use]
    pub fn place(&self, key: &Key) -> Place {
        Place(self.home.sandbox(key))
    }

    /// As a caller of the runtime's verbs.
    pub(super) fn context(&self, place: &Place) -> Context {
        self.context_of(place, Arc::default())
    }

    /// The same; when the machine that it makes was how far is found in `moments`.
    pub(super) fn context_of(&self, place: &Place, moments: Arc<OnceLock<Moments>>) -> Context {
        Context {
            store: self.store.clone(),
            systemd_cgroup: false,
            settings: None,
            tell: Box::new(Beside { warnings: place.warnings(), moments }),
        }
    }

    /// Does something with one that does not run, and that nobody starts or changes meanwhile: this program's server and its
    /// command line are two processes. What it wrote has been brought to rest by then.
    pub(super) fn while_at_rest<T>(
        &self,
        key: &Key,
        act: impl FnOnce(&Place, Stored) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (place, stored) = self.find(key)?;
        let _lock = match place.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::NoSandbox(key.clone()));
            }
            lock => lock.map_err(Failure::other)?,
        };
        let Some(_kept) = place.keep().map_err(Failure::other)? else {
            return Err(match self.reach(&place, &stored) {
                Err(elsewhere @ Failure::Elsewhere(_)) => elsewhere,
                _ => Failure::Runs(key.clone()),
            });
        };
        // It may have become another one until it was locked.
        let (_, stored) = self.find(key)?;
        if self.entry(&stored).is_some_and(|entry| is_running(&entry)) {
            return Err(Failure::Runs(key.clone()));
        }
        // By its id alone is known what it left.
        self.settle(&place, &stored)?;
        act(&place, stored)
    }

    /// Starts one that does not run, and returns when it does.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], and why it can't be started.
    pub fn start(&self, key: &Key) -> Result<(), Failure> {
        let (place, stored) = self.find(key)?;
        match self.state(&place, &stored)? {
            State::Running if place.is_kept_elsewhere().map_err(Failure::other)? => {
                Err(Failure::Elsewhere(key.clone()))
            }
            State::Running => Ok(()),
            State::Created | State::Stopped(_) => {
                place.set_stopped(false).map_err(Failure::other)?;
                match keep::detached::start(self, key) {
                    // Somebody else was faster.
                    Err(Failure::Runs(_)) => Ok(()),
                    started => started,
                }
            }
        }
    }

    /// The sandbox and its directory.
    ///
    /// # Errors
    /// [`Failure::NoNamespace`], [`Failure::NoSandbox`]
    pub fn find(&self, key: &Key) -> Result<(Place, Stored), Failure> {
        let place = self.place(key);
        match place.load().map_err(|error| unreadable(key, error))? {
            // It may have been renamed since.
            Some(mut stored) => {
                stored.key = key.clone();
                Ok((place, stored))
            }
            None if !self.home.namespaces().join(key.namespace.as_str()).is_dir() => {
                Err(Failure::NoNamespace(key.namespace.clone()))
            }
            None => Err(Failure::NoSandbox(key.clone())),
        }
    }

    /// What a sandbox does. One whose keeper was killed runs for as long as its machine does.
    ///
    /// # Errors
    /// The system's.
    pub fn state(&self, place: &Place, stored: &Stored) -> Result<State, Failure> {
        let ended = State::Stopped(stored.ended.and_then(super::stored::Ended::exit));
        if place.is_kept().map_err(Failure::other)? {
            let runs = self.entry(stored).is_some_and(|entry| is_running(&entry));
            return Ok(match stored.ended {
                _ if runs => State::Running,
                // Its keeper is at its beginning, or its end.
                Some(_) => ended,
                None if stored.started.is_none() => State::Created,
                None => State::Running,
            });
        }
        if self.entry(stored).is_some_and(|entry| is_running(&entry)) {
            return Ok(State::Running);
        }
        Ok(if stored.started.is_none() { State::Created } else { ended })
    }

    /// The runtime's record of one that runs.
    #[must_use]
    pub fn entry(&self, stored: &Stored) -> Option<Entry> {
        self.store.look(&stored.id().ok()?).ok()
    }

    /// The same, where something is to be done with it.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::Elsewhere`]
    pub(super) fn reach(&self, place: &Place, stored: &Stored) -> Result<Entry, Failure> {
        match self.entry(stored) {
            Some(entry) => Ok(entry),
            None if place.is_kept_elsewhere().map_err(Failure::other)? => {
                Err(Failure::Elsewhere(stored.key.clone()))
            }
            None => Err(Failure::NotRunning(stored.key.clone())),
        }
    }

    /// Sends the first process of one a signal.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoSandbox`]
    pub fn kill(&self, key: &Key, signal: i32) -> Result<(), Failure> {
        let (place, stored) = self.find(key)?;
        let entry = self.reach(&place, &stored)?;
        if [SIGKILL, SIGTERM, stored.stop_signal()].contains(&signal) {
            place.set_stopped(true).map_err(Failure::other)?;
        }
        kill::send(&entry, signal, false).map_err(Failure::from)
    }

    /// Ends what runs in it: by the image's signal, and after `grace` by force.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Elsewhere`], or that it can't be stopped.
    pub fn stop(&self, key: &Key, grace: Duration) -> Result<(), Failure> {
        let (place, stored) = self.find(key)?;
        if place.is_kept_elsewhere().map_err(Failure::other)? {
            return Err(Failure::Elsewhere(key.clone()));
        }
        let signal = stored.stop_signal();
        // What runs by itself again must not.
        if stored.request.restart != Restart::No {
            place.set_stopped(true).map_err(Failure::other)?;
        }
        for (signal, patience) in [(signal, grace), (SIGKILL, PATIENCE)] {
            if self.state(&place, &stored)? == State::Running
                && let Some(entry) = self.entry(&stored)
            {
                // It may end by itself just now.
                let _ = kill::send(&entry, signal, false);
            }
            if self.await_rest(&place, &stored, patience)? {
                return Ok(());
            }
        }
        Err(Failure::other(Stuck { key: key.clone() }))
    }

    /// Whether it came to rest, or was brought to it, within that time.
    pub(super) fn await_rest(
        &self,
        place: &Place,
        stored: &Stored,
        patience: Duration,
    ) -> Result<bool, Failure> {
        let until = Instant::now() + patience;
        loop {
            // Removed by its keeper.
            if !place.0.exists() {
                return Ok(true);
            }
            let runs = self.entry(stored).is_some_and(|entry| is_running(&entry));
            if !runs && !place.is_kept().map_err(Failure::other)? {
                // In the order of a keeper's: one that begins just now waits, and is not told that somebody keeps it.
                let _lock = match place.lock() {
                    // Removed by its keeper, just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                    lock => lock.map_err(Failure::other)?,
                };
                let Some(_kept) = place.keep().map_err(Failure::other)? else { return Ok(true) };
                if place.load().map_err(Failure::other)?.is_some_and(|now| now.id == stored.id) {
                    self.settle(place, stored)?;
                }
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            thread::sleep(LOOK);
        }
    }

    /// Stops it, and removes all that is its own; also one whose record can't be read, if nobody keeps it.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Runs`] for one that is started again and again, or that it can't be removed.
    pub fn remove(&self, key: &Key) -> Result<(), Failure> {
        let mut left = TRIES;
        loop {
            left -= 1;
            match self.stop_and_remove(key) {
                // Somebody has started it between its end and its removal.
                Err(Failure::Runs(_)) if left > 0 => {}
                removed => return removed,
            }
        }
    }

    fn stop_and_remove(&self, key: &Key) -> Result<(), Failure> {
        let stopped = self.stop(key, Duration::ZERO);
        if matches!(stopped, Err(Failure::NoSandbox(_) | Failure::NoNamespace(_))) {
            return stopped;
        }
        let place = self.place(key);
        let _lock = match place.lock() {
            // Removed by its keeper.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return stopped,
            lock => lock.map_err(Failure::other)?,
        };
        let Some(_kept) = place.keep().map_err(Failure::other)? else {
            return stopped.and_then(|()| Err(Failure::Runs(key.clone())));
        };
        match (place.load(), stopped) {
            // Its keeper was killed already.
            (Ok(Some(stored)), Ok(())) if self.entry(&stored).is_some_and(|entry| is_running(&entry)) => {
                return Err(Failure::Runs(key.clone()));
            }
            // What it wrote may find no room, and is not wanted.
            (Ok(Some(stored)), Err(_)) => self.discard(&place, &stored)?,
            // Removed by its keeper, and perhaps made anew in half.
            (Ok(None), stopped) => return stopped,
            (Ok(Some(_)), Ok(())) => {}
            // Nothing else of it is known.
            (Err(_), _) => root::unmount_root(&place).map_err(Failure::other)?,
        }
        place.remove().map_err(Failure::other)
    }

    /// Gives one that does not run another name.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Runs`], [`Failure::Elsewhere`], [`Failure::Exists`].
    pub fn rename(&self, key: &Key, name: Name) -> Result<(), Failure> {
        let wanted = Key { name, ..key.clone() };
        self.while_at_rest(key, |place, mut stored| {
            let there = self.place(&wanted);
            match renameat2(AT_FDCWD, &place.0, AT_FDCWD, &there.0, RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) if wanted == *key => Ok(()),
                Err(Errno::EEXIST) => Err(Failure::Exists(wanted)),
                done => {
                    done.map_err(Failure::other)?;
                    stored.key = wanted;
                    there.save(&stored).map_err(Failure::other)
                }
            }
        })
    }

    /// What its first process wrote.
    ///
    /// # Errors
    /// As for [`Self::info`].
    pub fn logs(&self, key: &Key, since: Since) -> Result<Logs, Failure> {
        let (place, _) = self.find(key)?;
        keep::read_log(&place.log(), since).map_err(Failure::other)
    }

    /// The volumes that a request names are made where they are not there; a path of the host must be there.
    pub(super) fn make_volumes(&self, request: &Request) -> io::Result<()> {
        for volume in &request.volumes {
            if let Where::Named(name) = &volume.source {
                directories().create(self.home.volume(name))?;
            }
        }
        Ok(())
    }
}

/// It was killed and does not end.
#[derive(Debug, thiserror::Error)]
#[error("Sandbox {key} was killed and does not come to rest: is the host's disk full, or its I/O stuck?")]
struct Stuck {
    key: Key,
}

/// What is kept of it is no such thing.
#[derive(Debug, thiserror::Error)]
#[error("The record of sandbox {key} is damaged: remove it with `msb rm --force`")]
struct Damaged {
    key: Key,
    source: serde_json::Error,
}

/// Why the record of `key` could not be read, as who asked for it is told.
pub(super) fn unreadable(key: &Key, error: StateError) -> Failure {
    match error {
        StateError::Damaged { source, .. } => Failure::other(Damaged { key: key.clone(), source }),
        other => Failure::other(other),
    }
}

/// Whether that is why.
pub(super) fn is_damaged(failure: &Failure) -> bool {
    matches!(failure, Failure::Other(error) if error.is::<Damaged>())
}

fn is_running(entry: &Entry) -> bool {
    let status = entry.record().map(|record| record.status());
    matches!(status, Ok(Status::Running | Status::Paused | Status::Created | Status::Creating))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::bundle::Defaults, *};

    #[test]
    fn what_is_kept_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(Home::at(dir.path().to_owned()).unwrap());
        let key = Key::of("web".parse().unwrap());
        let place = sandboxes.place(&key);
        directories().create(&place.0).unwrap();
        let stored = |image: &str| {
            let request = Request::of(image);
            Stored::new(key.clone(), request, "sha256:0".into(), Vec::new(), Defaults::default()).unwrap()
        };
        let old = stored("old");
        place.save(&old).unwrap();
        // As its keeper has it, in this process or another one.
        let kept = place.keep().unwrap().unwrap();
        assert!(matches!(sandboxes.put_back(&key, &stored("new")), Err(Failure::Runs(_))));
        assert_eq!(place.load().unwrap(), Some(old.clone()), "its id is what leads to its machine");
        fs::write(place.0.join("kept"), "pid:[1]").unwrap();
        assert!(matches!(sandboxes.put_back(&key, &stored("new")), Err(Failure::Elsewhere(_))));
        assert!(matches!(sandboxes.rename(&key, "other".parse().unwrap()), Err(Failure::Elsewhere(_))));
        drop(kept);
        let new = stored("new");
        let before = sandboxes.while_at_rest(&key, |place, before| {
            place.save(&new).map_err(Failure::other)?;
            Ok(before)
        });
        assert_eq!(before.unwrap(), old);
        assert_eq!(place.load().unwrap(), Some(new));
    }

    #[test]
    fn one_that_is_damaged_is_left_out_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(Home::at(dir.path().to_owned()).unwrap());
        let [good, bad] = ["good", "bad"].map(|name| Key::of(name.parse().unwrap()));
        for key in [&good, &bad] {
            let place = sandboxes.place(key);
            directories().create(&place.0).unwrap();
            let request = Request::of("busybox");
            let stored =
                Stored::new(key.clone(), request, "sha256:0".into(), Vec::new(), Defaults::default());
            place.save(&stored.unwrap()).unwrap();
        }
        assert_eq!(sandboxes.digests().unwrap().len(), 1);
        let place = sandboxes.place(&bad);
        fs::write(place.0.join("sandbox.json"), "{\"version\":").unwrap();
        let listed: Vec<Key> = sandboxes.list(None).unwrap().into_iter().map(|info| info.key).collect();
        assert_eq!(listed, [good]);
        // It may be made of any image, and have any volume.
        let failure = sandboxes.digests().unwrap_err().to_string();
        assert!(failure.contains("bad") && failure.contains("rm --force"), "{failure}");
        let volume: Name = "data".parse().unwrap();
        sandboxes.create_volume(volume.clone()).unwrap();
        sandboxes.remove_volume(volume.clone()).unwrap_err();
        // Who keeps it knows what it is.
        let kept = place.keep().unwrap().unwrap();
        sandboxes.remove(&bad).unwrap_err();
        assert!(place.0.exists());
        drop(kept);
        sandboxes.remove(&bad).unwrap();
        assert!(!place.0.exists());
        sandboxes.remove_volume(volume).unwrap();
        assert!(matches!(sandboxes.remove(&bad), Err(Failure::NoSandbox(_))));
    }

    #[test]
    fn what_is_renamed_is_what_it_has_become_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::new(Home::at(dir.path().to_owned()).unwrap());
        let [key, other] = ["web", "other"].map(|name| Key::of(name.parse().unwrap()));
        let place = sandboxes.place(&key);
        directories().create(&place.0).unwrap();
        let stored = |image: &str| {
            let request = Request::of(image);
            Stored::new(key.clone(), request, "sha256:0".into(), Vec::new(), Defaults::default()).unwrap()
        };
        place.save(&stored("old")).unwrap();
        // Who makes it anew meanwhile has it locked.
        let lock = place.lock().unwrap();
        thread::scope(|scope| {
            let renamed = scope.spawn(|| sandboxes.rename(&key, other.name.clone()));
            thread::sleep(LOOK * 20);
            place.save(&stored("new")).unwrap();
            drop(lock);
            renamed.join().unwrap().unwrap();
        });
        let (_, found) = sandboxes.find(&other).unwrap();
        assert_eq!((found.request.image.as_str(), &found.key), ("new", &other));
        assert!(matches!(sandboxes.find(&key), Err(Failure::NoSandbox(_))));
    }
}
