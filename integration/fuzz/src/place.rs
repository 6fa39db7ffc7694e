//! A directory for one process, in memory where there is some: what a target makes is gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Memory as a file system.
const MEMORY: &str = "/dev/shm";

/// A directory that is emptied again and again.
#[derive(Debug)]
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let made = TempDir::new_in(MEMORY).or_else(|_| TempDir::new());
        Self(made.expect("a temporary directory can be made"))
    }

    /// A directory of that name in it, empty.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        if path.exists() {
            fs::remove_dir_all(&path).expect("what was made can be removed");
        }
        fs::create_dir(&path).expect("a directory can be made");
        path
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
