//! A file that appears under its name only when it is complete.
//!
//! In: a path and how much the content must survive. Out: an open temporary file in the same directory, and its rename at
//! the end. An abandoned one is removed. It must never know what is written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// How the name of an unfinished file begins.
pub const PREFIX: &str = ".msb-";

/// What has to be left of a finished image after the host loses power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: it is made again for the next container. No fsync, which would cost more than the whole image.
    #[default]
    Throwaway,
    /// All of it, or no file under this name: fsync before the rename and of the directory after it.
    Durable,
}

/// Writing an output file failed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The temporary file could not be made beside the target.
    #[error(
        "Cannot create a file in {directory:?}: check that the directory exists, is writable and has space"
    )]
    Create {
        /// The directory of the target.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The content could not reach the disk.
    #[error("Cannot flush {path:?} to its disk")]
    Flush {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The temporary file could not take the target's name.
    #[error("Cannot rename the finished file to {path:?}")]
    Rename {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An output file in the making. Dropping it removes it.
#[derive(Debug)]
pub struct Output {
    temporary: NamedTempFile,
    directory: PathBuf,
    target: PathBuf,
}

impl Output {
    /// Starts an output that will be called `target`; readable and writable by its owner only.
    ///
    /// # Errors
    /// [`OutputError::Create`].
    pub fn create(target: &Path) -> Result<Self, OutputError> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        match tempfile::Builder::new().prefix(PREFIX).tempfile_in(&directory) {
            Ok(temporary) => Ok(Self { temporary, directory, target: target.to_owned() }),
            Err(source) => Err(OutputError::Create { directory, source }),
        }
    }

    /// The open file, at whatever position the last writer left it.
    #[must_use]
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name, replacing what had it.
    ///
    /// # Errors
    /// [`OutputError::Flush`] or [`OutputError::Rename`]; the target is then as it was before.
    pub fn commit(self, durability: Durability) -> Result<(), OutputError> {
        let Self { temporary, directory, target } = self;
        let durable = durability == Durability::Durable;
        if durable && let Err(source) = temporary.as_file().sync_all() {
            return Err(OutputError::Flush { path: target, source });
        }
        if let Err(error) = temporary.persist(&target) {
            return Err(OutputError::Rename { path: target, source: error.error });
        }
        if durable && let Err(source) = File::open(&directory).and_then(|open| open.sync_all()) {
            return Err(OutputError::Flush { path: target, source });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_finished_output_replaces_the_old_file_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("image");
        std::fs::write(&target, "old").unwrap();
        let output = Output::create(&target).unwrap();
        output.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        output.commit(Durability::Durable).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_output_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        drop(Output::create(&directory.path().join("image")).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Output::create(Path::new("/nonexistent-directory/image")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent-directory"), "{error}");
    }
}
