//! Removes from a cache what is of no use any more.
//!
//! In: the cache. Out: how much went. Each composition says itself which layers it needs.
//! It must never remove what somebody is making.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Cache, CacheError, LOCKS, SUFFIX, remove};
use crate::composed::Composition;
use crate::output::PREFIX;

/// What a collection has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Compositions that stay.
    pub kept: usize,
    /// Compositions that went.
    pub removed: usize,
    /// Files that a crash had left.
    pub swept: usize,
}

impl Cache {
    /// Collects; `held` is the lock that the caller has, if it has one.
    pub(super) fn collect(&self, unused: Duration, held: Option<u8>) -> Result<Collected, CacheError> {
        let failed = |source| CacheError::Directory { path: self.directory.clone(), source };
        let mut collected = Collected::default();
        let mut temporary = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension() == Some(OsStr::new(SUFFIX)) {
                if of_use(&path, unused) {
                    collected.kept += 1;
                } else {
                    remove(&path)?;
                    collected.removed += 1;
                }
            } else if path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
            {
                temporary.push(path);
            }
        }
        // Only while nobody else makes one can it be told which are left over.
        if !temporary.is_empty()
            && let Some(_locks) = self.all_locks(held)?
        {
            // The caller's own has its final name by now.
            for path in &temporary {
                remove(path)?;
                collected.swept += 1;
            }
        }
        Ok(collected)
    }

    /// All locks but the one that is held; none if somebody else has one.
    fn all_locks(&self, held: Option<u8>) -> Result<Option<Vec<File>>, CacheError> {
        let mut locks = Vec::new();
        for lock in (0..LOCKS).filter(|lock| Some(*lock) != held) {
            let (file, _) = self.lock_file(lock)?;
            if file.try_lock().is_err() {
                return Ok(None);
            }
            locks.push(file);
        }
        Ok(Some(locks))
    }
}

/// Whether a composition can be used, was used lately, and has all its layers.
fn of_use(path: &Path, unused: Duration) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let used = file.metadata().and_then(|metadata| metadata.modified());
    // A time in the future is that of a clock set back.
    let old = |used| SystemTime::now().duration_since(used).is_ok_and(|since| since > unused);
    if used.map_or(true, old) {
        return false;
    }
    let Ok(composition) = Composition::open(file) else { return false };
    (0..composition.layers()).all(|index| {
        composition
            .layer(index)
            .is_ok_and(|layer| fs::symlink_metadata(&layer.path).is_ok_and(|now| now.ino() == layer.inode))
    })
}
