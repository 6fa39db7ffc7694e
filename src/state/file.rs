//! JSON files that are complete or absent.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::StateError;

/// Longest file in bytes that is written and read back: annotations are the only part whose size others decide.
const FILE_MAX: usize = 8 << 20;

/// It could be written, and never be read again.
#[derive(Debug, thiserror::Error)]
#[error("It has {0} bytes, and may have {max}: give fewer or shorter variables, labels, or annotations", max = FILE_MAX)]
struct TooLarge(usize);

/// Replaces `directory/name` as a whole: temporary file, fsync, rename. What [`load`] would not read back is not written.
///
/// # Errors
/// [`StateError::File`]
pub fn save(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), StateError> {
    let path = directory.join(name);
    // One writer at a time holds the container's lock or its reservation; the pid keeps even others apart.
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let bytes =
        serde_json::to_vec(value).map_err(|source| StateError::Damaged { path: path.clone(), source })?;
    if bytes.len() > FILE_MAX {
        let source = io::Error::new(ErrorKind::FileTooLarge, TooLarge(bytes.len()));
        return Err(StateError::File { action: "write", path, source });
    }
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|source| {
        // Best effort: what matters is the error that is returned.
        let _ = fs::remove_file(&temporary);
        StateError::File { action: "write", path, source }
    })
}

/// Reads one back; `None` if there is none.
///
/// # Errors
/// [`StateError::File`], [`StateError::Damaged`]
pub fn load<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, StateError> {
    let path = directory.join(name);
    let failed = |source| StateError::File { action: "read", path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| StateError::Damaged { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_to_be_read_is_not_written() {
        let root = tempfile::tempdir().unwrap();
        // With its quotes as large as may be.
        let most = "x".repeat(FILE_MAX - 2);
        save(root.path(), "most", &most).unwrap();
        assert_eq!(load::<String>(root.path(), "most").unwrap(), Some(most.clone()));
        let error = save(root.path(), "most", &format!("{most}x")).unwrap_err();
        assert!(
            matches!(&error, StateError::File { source, .. } if source.kind() == ErrorKind::FileTooLarge),
            "{error:?}"
        );
        assert_eq!(load::<String>(root.path(), "most").unwrap(), Some(most), "what was there is there");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
