//! How a caller wants to be told of a new process.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::VerbError;
use crate::host::pidfd;

/// `--pid-file` and `--pidfd-socket`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announce {
    /// File that the pid is written to.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that is sent a descriptor of the process.
    pub pidfd_socket: Option<PathBuf>,
}

impl Announce {
    /// Tells of the process `pid`; `kind` goes with its descriptor, as with runc.
    ///
    /// # Errors
    /// [`VerbError::Pidfd`], [`VerbError::PidFile`].
    pub fn announce(&self, pid: u32, kind: &str) -> Result<(), VerbError> {
        if let Some(path) = &self.pidfd_socket {
            pidfd::send(pid, kind, path)?;
        }
        if let Some(path) = &self.pid_file {
            write_pid(path, pid).map_err(|source| VerbError::PidFile { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// Whole or not at all: whoever waits for the file reads it at once.
fn write_pid(path: &Path, pid: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, pid.to_string())?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_a_number_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let announce = Announce { pid_file: Some(path.clone()), pidfd_socket: None };
        announce.announce(7, "standard").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "7");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = Announce { pid_file: Some("/".into()), pidfd_socket: None };
        assert!(matches!(nowhere.announce(7, "standard"), Err(VerbError::PidFile { .. })));
    }
}
