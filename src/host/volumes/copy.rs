//! Single files that are handed over by content, so that a container with no other volume needs no daemon:
//! `/etc/resolv.conf` and the like, which every caller binds into every container.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::source::{Kind, Source, errno};
use crate::config::BindMount;

/// Largest file that is handed over by content, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Destinations of the files that Docker and podman bind into every container, and of the init that they lend.
const USUAL: [&str; 6] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/run/.containerenv",
    "/run/podman-init",
    "/sbin/docker-init",
];

/// The file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("The bind mount's source {} can't be read (errno {errno})", path.display())]
pub struct CopyError {
    path: PathBuf,
    errno: i32,
}

/// A regular file, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Whether `bind` is one of the usual files, and small.
#[must_use]
pub fn is_usual(bind: &BindMount, source: &Source) -> bool {
    let small = matches!(source.kind(), Kind::File { size } if size <= MAX_FILE);
    small && USUAL.contains(&bind.destination.trim_end_matches('/'))
}

/// Reads a regular file; what is beyond [`MAX_FILE`] (it may grow meanwhile) is cut.
///
/// # Errors
/// [`CopyError`]
pub fn read(source: &Source) -> Result<HostFile, CopyError> {
    let whole = || -> io::Result<HostFile> {
        let file = File::open(source.by_descriptor())?;
        let metadata = file.metadata()?;
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content)?;
        Ok(HostFile { content, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() })
    };
    whole().map_err(|error| CopyError { path: source.path().to_owned(), errno: errno(&error) })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_file_comes_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let file = read(&Source::open(&path).unwrap()).unwrap();
        assert_eq!((file.content.as_slice(), file.mode), (&b"127.0.0.1 localhost\n"[..], 0o640));
    }

    #[test]
    fn only_small_files_at_the_usual_places_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let usual = |destination: &str| {
            let bind = BindMount {
                destination: destination.into(),
                source: path.clone(),
                options: Vec::new(),
                recursive: true,
            };
            is_usual(&bind, &Source::open(&path).unwrap())
        };
        assert!(usual("/etc/hosts"));
        assert!(!usual("/etc/nginx.conf"));
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(!usual("/etc/hosts"));
    }
}
