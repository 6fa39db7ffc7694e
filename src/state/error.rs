//! What can go wrong with the records. The first four texts are runc's: callers match on them.

use std::{io, path::PathBuf};

use super::{Id, Status};

/// Why a record could not be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No container has this id.
    #[error("container does not exist")]
    DoesNotExist,
    /// The id is taken.
    #[error("container with given ID already exists")]
    AlreadyExists,
    /// The container has ended, or was not started.
    #[error("container not running")]
    NotRunning,
    /// `resume` of a container that runs.
    #[error("container not paused")]
    NotPaused,
    /// `delete` without `--force` of what still lives.
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped {
        /// Which one.
        id: Id,
        /// What it is.
        status: Status,
    },
    /// `start` of a container that is not waiting for it.
    #[error(
        "cannot start a container in the {status} state: only a created one can be started, and only once"
    )]
    NotCreated {
        /// What it is.
        status: Status,
    },
    /// The container's directory is there without a record: its create is under way, or was killed.
    #[error("container {id} is not complete: wait for its create, or remove it with `delete --force`")]
    Incomplete {
        /// Which one.
        id: Id,
    },
    /// Another version of this program wrote the record.
    #[error("{} has version {found}, not {}: use the program that wrote it", path.display(), super::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It can't be understood.
    #[error("{} is damaged: remove the container with `delete --force`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("Can't {action} {}: is --root a directory that you may write to?", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}
