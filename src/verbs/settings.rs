//! The host's settings, read from their file.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::config::{Settings, SettingsError};

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("The settings in {} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file says something that can't be had.
    #[error("The settings in {} are wrong", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<SettingsError>,
    },
}

/// The file that is read.
#[must_use]
pub fn path() -> PathBuf {
    let named = std::env::var_os(Settings::VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| Settings::PATH.into(), PathBuf::from)
}

/// Those of the file; without one, the built-in ones. A file that the environment names must be there.
///
/// # Errors
/// [`LoadError`].
pub fn load() -> Result<Settings, LoadError> {
    load_from(&path())
}

/// Those of the file `path`; the usual one need not be there.
///
/// # Errors
/// [`LoadError`].
pub fn load_from(path: &Path) -> Result<Settings, LoadError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.as_os_str() == Settings::PATH => {
            return Ok(Settings::default());
        }
        other => other.map_err(|source| LoadError::Read { path: path.to_owned(), source })?,
    };
    Settings::parse(&text)
        .map_err(|source| LoadError::Wrong { path: path.to_owned(), source: Box::new(source) })
}
