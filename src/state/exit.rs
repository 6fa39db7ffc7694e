//! How a container ended, kept by the process that stood for it: its exit code is also its container's, but only its parent is
//! told of that, and the parent may have been killed.

use std::{path::Path, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{Entry, StateError, file};

/// `exit.json`. A process that was killed leaves none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell tells it.
    pub code: u8,
    /// When.
    pub at: SystemTime,
}

const NAME: &str = "exit.json";

impl Exit {
    /// Keeps it in a container's directory.
    ///
    /// # Errors
    /// [`StateError::File`]; the container may be removed already.
    pub fn save(&self, directory: &Path) -> Result<(), StateError> {
        file::save(directory, NAME, self)
    }
}

impl Entry {
    /// How the container ended, if its process could keep it.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Damaged`]
    pub fn exit(&self) -> Result<Option<Exit>, StateError> {
        file::load(self.directory(), NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Store;

    #[test]
    fn an_end_is_known_once_it_was_kept() {
        let root = tempfile::tempdir().unwrap();
        let entry = Store::new(root.path().into()).reserve(&"one".parse().unwrap()).unwrap().keep();
        assert_eq!(entry.exit().unwrap(), None);
        let exit = Exit { code: 7, at: SystemTime::now() };
        exit.save(entry.directory()).unwrap();
        assert_eq!(entry.exit().unwrap(), Some(exit));
    }
}
