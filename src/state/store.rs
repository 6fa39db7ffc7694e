//! The directory of all containers.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Id, Record, StateError, VERSION, file};

const RECORD: &str = "state.json";
const LOCK: &str = "lock";
/// How often a directory is removed in which something was made meanwhile: a sandbox whose create was killed may only be about to
/// make its socket, and finds out after that that nobody waits for it.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// All containers beneath one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A container's directory.
#[derive(Debug)]
pub struct Entry {
    id: Id,
    directory: PathBuf,
    /// Held by the verbs that change the container; given back when the entry is dropped.
    lock: Option<Flock<File>>,
}

/// A new container's directory, locked. It is removed again on drop unless [`Reservation::keep`] is called.
#[derive(Debug)]
pub struct Reservation {
    entry: Option<Entry>,
}

impl Store {
    /// The containers beneath `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Takes an id for a new container.
    ///
    /// # Errors
    /// [`StateError::AlreadyExists`] if another has it.
    pub fn reserve(&self, id: &Id) -> Result<Reservation, StateError> {
        let mut parents = DirBuilder::new();
        parents.mode(0o700).recursive(true);
        parents.create(&self.root).map_err(|source| failed("create", &self.root, source))?;
        let directory = self.root.join(id);
        DirBuilder::new().mode(0o700).create(&directory).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => StateError::AlreadyExists,
            _ => failed("create", &directory, source),
        })?;
        let mut reservation = Reservation { entry: Some(Entry { id: id.clone(), directory, lock: None }) };
        let entry = reservation.entry_mut();
        entry.lock = Some(lock(&entry.directory)?);
        Ok(reservation)
    }

    /// Where a container's directory is, or would be.
    #[must_use]
    pub fn directory(&self, id: &Id) -> PathBuf {
        self.root.join(id)
    }

    /// A container's directory, to look at.
    ///
    /// # Errors
    /// [`StateError::DoesNotExist`]
    pub fn look(&self, id: &Id) -> Result<Entry, StateError> {
        let directory = self.root.join(id);
        match fs::symlink_metadata(&directory) {
            Ok(found) if found.is_dir() => Ok(Entry { id: id.clone(), directory, lock: None }),
            Ok(_) => Err(StateError::DoesNotExist),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StateError::DoesNotExist),
            Err(error) => Err(failed("open", &directory, error)),
        }
    }

    /// A container's directory, to change; waits until no other verb changes it.
    ///
    /// # Errors
    /// [`StateError::DoesNotExist`]
    pub fn lock(&self, id: &Id) -> Result<Entry, StateError> {
        let mut entry = self.look(id)?;
        entry.lock = Some(lock(&entry.directory)?);
        Ok(entry)
    }

    /// The ids there are, sorted.
    ///
    /// # Errors
    /// [`StateError::File`]; a root that does not exist has none.
    pub fn ids(&self) -> Result<Vec<Id>, StateError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.root, error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &self.root, error))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ids.extend(entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok()));
            }
        }
        ids.sort();
        Ok(ids)
    }
}

impl Entry {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The record.
    ///
    /// # Errors
    /// [`StateError::Incomplete`] as long as there is none, [`StateError::DoesNotExist`] if the container was
    /// removed meanwhile.
    pub fn record(&self) -> Result<Record, StateError> {
        // The version first: a record of another version need not have the same fields.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Some(bytes) = file::load::<serde_json::Value>(&self.directory, RECORD)? else {
            let gone = !self.directory.exists();
            return Err(if gone {
                StateError::DoesNotExist
            } else {
                StateError::Incomplete { id: self.id.clone() }
            });
        };
        let path = || self.directory.join(RECORD);
        let damaged = |source| StateError::Damaged { path: path(), source };
        let found = Versioned::deserialize(&bytes).map_err(damaged)?.version;
        if found != VERSION {
            return Err(StateError::Version { path: path(), found });
        }
        serde_json::from_value(bytes).map_err(damaged)
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// [`StateError::File`]
    pub fn set_record(&self, record: &Record) -> Result<(), StateError> {
        file::save(&self.directory, RECORD, record)
    }

    /// The same directory, to change: what was only looked at so far. Who has it locked already would wait for ever.
    ///
    /// # Errors
    /// [`StateError::DoesNotExist`]
    pub fn locked(&self) -> Result<Self, StateError> {
        let (id, directory) = (self.id.clone(), self.directory.clone());
        Ok(Self { lock: Some(lock(&directory)?), id, directory })
    }

    /// Keeps something beside the record, as `NAME.json`.
    ///
    /// # Errors
    /// [`StateError::File`]
    pub fn save(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        file::save(&self.directory, &format!("{name}.json"), value)
    }

    /// What was kept with [`Entry::save`], if it was.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Damaged`]
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        file::load(&self.directory, &format!("{name}.json"))
    }

    /// Removes the container's directory: the id is free.
    ///
    /// # Errors
    /// [`StateError::File`]
    pub fn remove(self) -> Result<(), StateError> {
        let mut tries = TRIES;
        loop {
            match fs::remove_dir_all(&self.directory) {
                Err(source) if source.kind() == ErrorKind::DirectoryNotEmpty && tries > 0 => {
                    tries -= 1;
                    thread::sleep(BETWEEN_TRIES);
                }
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(failed("remove", &self.directory, source));
                }
                _ => return Ok(()),
            }
        }
    }
}

impl Reservation {
    /// The directory.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        self.entry.as_ref().expect("taken only by keep, which consumes the reservation")
    }

    fn entry_mut(&mut self) -> &mut Entry {
        self.entry.as_mut().expect("taken only by keep, which consumes the reservation")
    }

    /// The container stays.
    #[must_use]
    pub fn keep(mut self) -> Entry {
        self.entry.take().expect("taken only here")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            // Best effort: the error that led here is the one to be told.
            let _ = entry.remove();
        }
    }
}

/// Takes the container's lock, and makes sure that the container was not removed while waiting for it.
fn lock(directory: &Path) -> Result<Flock<File>, StateError> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|source| match source.kind() {
        ErrorKind::NotFound => StateError::DoesNotExist,
        _ => failed("open", &path, source),
    })?;
    let locked = loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(locked) => break locked,
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(failed("lock", &path, errno.into())),
        }
    };
    match locked.metadata() {
        Ok(metadata) if metadata.nlink() > 0 => Ok(locked),
        _ => Err(StateError::DoesNotExist),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::File { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::state::{Stage, Status};

    fn record(id: &Id) -> Record {
        let annotations = BTreeMap::from([("a".into(), "b".into())]);
        Record { annotations, systemd_cgroup: true, ..Record::sample(id, Stage::Created) }
    }

    #[test]
    fn a_record_comes_back_and_tells_the_status() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("deep/er"));
        let id: Id = "one".parse().unwrap();
        let entry = store.reserve(&id).unwrap().keep();
        assert!(matches!(store.look(&id).unwrap().record(), Err(StateError::Incomplete { .. })));
        entry.set_record(&record(&id)).unwrap();
        drop(entry);

        let mut found = store.look(&id).unwrap().record().unwrap();
        assert_eq!(found, record(&id));
        assert_eq!(found.status(), Status::Created);
        found.vmm.start_time += 1;
        assert_eq!(found.status(), Status::Stopped);
        assert_eq!(store.ids().unwrap(), std::slice::from_ref(&id));
        let directory = store.look(&id).unwrap().directory().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        let files: Vec<_> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files.len(), 2, "a temporary file was left: {files:?}");
    }

    #[test]
    fn what_is_made_while_it_goes_goes_too() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().into());
        let entry = store.reserve(&"one".parse().unwrap()).unwrap().keep();
        let directory = entry.directory().to_owned();
        thread::scope(|scope| {
            let made = scope
                .spawn(|| (0..200).map_while(|n| File::create(directory.join(n.to_string())).ok()).count());
            while !directory.join("0").exists() && !made.is_finished() {}
            entry.remove().unwrap();
        });
        assert!(!directory.exists());
    }

    #[test]
    fn an_id_is_taken_once_and_free_after_an_undone_create() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().into());
        let id: Id = "one".parse().unwrap();
        assert!(matches!(store.look(&id), Err(StateError::DoesNotExist)));
        let reservation = store.reserve(&id).unwrap();
        assert!(matches!(store.reserve(&id), Err(StateError::AlreadyExists)));
        drop(reservation);
        assert!(matches!(store.lock(&id), Err(StateError::DoesNotExist)));
        store.reserve(&id).unwrap().keep().remove().unwrap();
        assert!(store.ids().unwrap().is_empty());
    }

    #[test]
    fn who_waited_for_a_removed_container_is_told() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().into());
        let id: Id = "one".parse().unwrap();
        let entry = store.reserve(&id).unwrap().keep();
        let waiter = thread::spawn({
            let (store, id) = (store.clone(), id.clone());
            move || store.lock(&id).map(drop)
        });
        // Whether or not the other thread already waits, the answer is the same.
        thread::sleep(Duration::from_millis(20));
        entry.remove().unwrap();
        assert!(matches!(waiter.join().unwrap(), Err(StateError::DoesNotExist)));
    }

    #[test]
    fn another_version_and_damage_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().into());
        let entry = store.reserve(&"one".parse().unwrap()).unwrap().keep();
        let path = entry.directory().join(RECORD);
        fs::write(&path, r#"{"version": 99}"#).unwrap();
        assert!(matches!(entry.record(), Err(StateError::Version { found: 99, .. })));
        fs::write(&path, r#"{"version": 1}"#).unwrap();
        assert!(matches!(entry.record(), Err(StateError::Damaged { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(entry.record(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn callers_keep_files_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let entry = Store::new(root.path().into()).reserve(&"one".parse().unwrap()).unwrap().keep();
        assert_eq!(entry.load::<u32>("exit").unwrap(), None);
        entry.save("exit", &7_u32).unwrap();
        assert_eq!(entry.load::<u32>("exit").unwrap(), Some(7));
    }
}
