//! Compositions of image layers, made once and kept.
//!
//! In: a directory of ours, and layers nobody writes to. Out: their composition, open; made now if there was none. What is
//! found costs a look at each layer's directory and at the composition's header, whatever the image's size.
//!
//! ```text
//! KEY.composed   a composition. Its name says what it was made from; its mtime, when it was last used
//! lock.0 … f     held while a composition whose key begins so is made: who comes second waits, then finds it
//! .msb-*         compositions in the making; left by a crash, they are swept by the next collection
//! ```
//!
//! The key has each layer's path, device, inode and times: a layer that was removed and made again, under the same name, is
//! another one. That a file deep inside of a layer changed does not show here; it shows when that file is opened.
//! It must never know where layers come from.

mod collect;
mod key;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::composed::{ComposeError, Composed, Composition, Kind, compose};
use crate::output::Durability;
use crate::tree::Marks;

pub use collect::Collected;
use key::Key;

/// How long a composition is kept without being used.
pub const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How exact the time of last use is: to note it is a write.
const USE_GRAIN: Duration = Duration::from_secs(60 * 60);
/// What follows the key in an entry's name.
const SUFFIX: &str = "composed";
/// Locks: one for each first digit of a key.
const LOCKS: u8 = 16;

/// The cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Its directory.
    #[error("Cannot use the cache directory {path:?}: check that it is writable")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A layer.
    #[error("Cannot find the layer {path:?}: check that it exists")]
    Layer {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// One of its locks.
    #[error("Cannot lock {path:?}")]
    Lock {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An entry that is to go.
    #[error("Cannot remove {path:?} from the cache")]
    Remove {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Making what was not there, or the container's own layers.
    #[error("Cannot compose the layers")]
    Compose(#[from] ComposeError),
}

impl CacheError {
    /// See [`ComposeError::wants_plain`].
    #[must_use]
    pub fn wants_plain(&self) -> bool {
        matches!(self, Self::Compose(error) if error.wants_plain())
    }
}

/// A directory of compositions. Any number of processes can use the same one.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `directory`, which is made if it isn't there, for its owner only: who can write here decides what
    /// containers see.
    ///
    /// # Errors
    /// [`CacheError::Directory`].
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| CacheError::Directory { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The composition of `layers`, the lowest first, which are all of an image.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn chain(&self, layers: &[PathBuf], marks: Marks) -> Result<Composed, CacheError> {
        let (layers, key) = Key::of(layers, marks)?;
        let path = self.directory.join(key.name()).with_extension(SUFFIX);
        if let Some(composition) = found(&path) {
            return Ok(Composed { path, composition, layers });
        }
        let _lock = self.lock(key.lock())?;
        // Whoever had the lock has made it.
        if let Some(composition) = found(&path) {
            return Ok(Composed { path, composition, layers });
        }
        let composed = compose(&layers, Kind::Chain(marks), &path, Durability::Durable)?;
        // The cache is no worse for it, and the next one tries again.
        let _ = self.collect(UNUSED, Some(key.lock()));
        Ok(composed.expect("a chain is composed even if it is empty"))
    }

    /// Removes what is of no use any more: compositions whose layers are gone, that nobody used for `unused`, or that this
    /// version cannot read; and what a crash has left.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn gc(&self, unused: Duration) -> Result<Collected, CacheError> {
        self.collect(unused, None)
    }

    fn lock_file(&self, lock: u8) -> Result<(File, PathBuf), CacheError> {
        let path = self.directory.join(format!("lock.{lock:x}"));
        match File::options().create(true).truncate(false).write(true).open(&path) {
            Ok(file) => Ok((file, path)),
            Err(source) => Err(CacheError::Lock { path, source }),
        }
    }

    /// Waits for a lock. It ends with the file, and so with the process at the latest.
    fn lock(&self, lock: u8) -> Result<File, CacheError> {
        let (file, path) = self.lock_file(lock)?;
        file.lock().map_err(|source| CacheError::Lock { path, source })?;
        Ok(file)
    }
}

/// The composition at `path`, now in use. One that cannot be read is as good as none: it is made again.
fn found(path: &Path) -> Option<Composition> {
    let file = File::open(path).ok()?;
    let used = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
    let now = SystemTime::now();
    if now.duration_since(used).is_ok_and(|since| since > USE_GRAIN) {
        // Not noted, it is collected too early, and made again.
        let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(now));
    }
    Composition::open(file).ok()
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), CacheError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::Remove { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// A cache, and layers for it in another directory.
    struct Example {
        _all: tempfile::TempDir,
        cache: Cache,
        layers: Vec<PathBuf>,
    }

    impl Example {
        fn new() -> Self {
            let all = tempfile::tempdir().unwrap();
            let layers: Vec<PathBuf> =
                ["1", "2"].iter().map(|name| all.path().join("layers").join(name)).collect();
            for (index, layer) in layers.iter().enumerate() {
                fs::create_dir_all(layer.join("d")).unwrap();
                fs::write(layer.join("d").join(index.to_string()), "data").unwrap();
            }
            let cache = Cache::open(&all.path().join("state/cache")).unwrap();
            Self { _all: all, cache, layers }
        }

        fn chain(&self) -> Composed {
            self.cache.chain(&self.layers, Marks::Trusted).unwrap()
        }

        /// Names but for the locks.
        fn entries(&self) -> Vec<String> {
            let names = fs::read_dir(&self.cache.directory).unwrap().map(|entry| entry.unwrap().file_name());
            let names = names.map(|name| name.into_string().unwrap());
            names.filter(|name| !name.starts_with("lock.")).collect()
        }

        fn inode(&self, composed: &Composed) -> u64 {
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(&composed.path).unwrap())
        }
    }

    #[test]
    fn what_was_made_is_found() {
        let example = Example::new();
        let made = example.chain();
        assert_eq!((made.composition.files(), made.layers.len()), (2, 2));
        let found = example.chain();
        assert_eq!((found.path.clone(), example.inode(&found)), (made.path.clone(), example.inode(&made)));
        assert_eq!(example.entries().len(), 1);
        let other = example.cache.chain(&example.layers[..1], Marks::Trusted).unwrap();
        assert_ne!(other.path, made.path);
        assert_ne!(example.cache.chain(&example.layers, Marks::User).unwrap().path, made.path);
    }

    #[test]
    fn a_layer_made_again_is_another_one() {
        let example = Example::new();
        let before = example.chain().path;
        let aside = example.layers[1].with_extension("aside");
        fs::rename(&example.layers[1], &aside).unwrap();
        fs::create_dir(&example.layers[1]).unwrap();
        let after = example.chain();
        assert_ne!(before, after.path);
        assert_eq!(after.composition.files(), 1);
        assert_eq!(example.entries().len(), 1, "the first one's layer is gone");
    }

    #[test]
    fn of_many_at_once_one_makes_it() {
        let example = Example::new();
        let barrier = Barrier::new(8);
        let inodes: Vec<u64> = std::thread::scope(|scope| {
            let one = || {
                barrier.wait();
                example.inode(&example.chain())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");
        assert_eq!(example.entries().len(), 1);
    }

    #[test]
    fn a_damaged_entry_is_made_again() {
        let example = Example::new();
        let path = example.chain().path;
        let whole = fs::read(&path).unwrap();
        for damaged in [&b""[..], &vec![0; whole.len()], &whole[..whole.len() - 1]] {
            fs::write(&path, damaged).unwrap();
            example.chain();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn collection_leaves_what_is_in_use() {
        let example = Example::new();
        let path = example.chain().path;
        fs::write(example.cache.directory.join(".msb-crashed"), "half").unwrap();
        fs::write(example.cache.directory.join("other.composed"), "of another version").unwrap();
        let collected = example.cache.gc(UNUSED).unwrap();
        assert_eq!((collected.removed, collected.swept, collected.kept), (1, 1, 1));
        let long_ago = SystemTime::now() - UNUSED - USE_GRAIN;
        let age = || File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        age();
        example.chain();
        assert_eq!(example.cache.gc(UNUSED).unwrap().kept, 1, "it was just used");
        age();
        assert_eq!(example.cache.gc(UNUSED).unwrap().removed, 1);
        example.chain();
        fs::remove_dir_all(&example.layers[0]).unwrap();
        assert_eq!(example.cache.gc(UNUSED).unwrap().removed, 1);
        assert!(example.entries().is_empty());
    }

    #[test]
    fn what_is_being_made_is_not_swept() {
        let example = Example::new();
        let half = example.cache.directory.join(".msb-half");
        fs::write(&half, "half").unwrap();
        let lock = example.cache.lock(7).unwrap();
        assert_eq!(example.cache.gc(UNUSED).unwrap().swept, 0);
        drop(lock);
        assert_eq!(example.cache.gc(UNUSED).unwrap().swept, 1);
        assert!(!half.exists());
    }

    #[test]
    fn a_layer_that_is_not_there_is_named() {
        let example = Example::new();
        let error = example.cache.chain(&[PathBuf::from("/nonexistent-layer")], Marks::Trusted).unwrap_err();
        assert!(matches!(error, CacheError::Layer { path, .. } if path == Path::new("/nonexistent-layer")));
        assert!(matches!(Cache::open(Path::new("/proc/nothing")), Err(CacheError::Directory { .. })));
    }
}
