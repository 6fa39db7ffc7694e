//! Single files of the host that a container sees: resolv.conf, hosts, hostname and the like, by their content.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Largest file that is handed over by content, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Why a bind mount can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be opened or read.
    #[error("The bind mount's source {} can't be read", path.display())]
    Read {
        /// `mounts[].source`
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Live sharing of directories does not exist yet.
    #[error("The bind mount of directory {} is not supported yet: copy the files into the image", path.display())]
    Directory {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// A socket, device or fifo.
    #[error("The bind mount's source {} is neither a file nor a directory, which a microVM can't share", path.display())]
    Special {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// Too large to be handed over.
    #[error("The bind mount's source {} has {size} bytes; single files up to {MAX_FILE} are supported", path.display())]
    TooLarge {
        /// `mounts[].source`
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
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

/// Reads a regular file of at most [`MAX_FILE`] bytes.
///
/// # Errors
/// [`FileError`], one for each kind of thing that can't be handed over.
pub fn read(path: &Path) -> Result<HostFile, FileError> {
    let fail = |source| FileError::Read { path: path.to_owned(), source };
    // Not to block on a fifo that nobody writes to.
    let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        // A socket can't be opened at all.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => {
            return Err(FileError::Special { path: path.to_owned() });
        }
        opened => opened.map_err(fail)?,
    };
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(FileError::Directory { path: path.to_owned() });
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        return Err(FileError::Special { path: path.to_owned() });
    }
    if metadata.size() > MAX_FILE {
        return Err(FileError::TooLarge { path: path.to_owned(), size: metadata.size() });
    }
    let content = whole(file).map_err(fail)?;
    Ok(HostFile { content, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() })
}

/// A file that grows meanwhile is cut at the limit.
fn whole(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
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
        let file = read(&path).unwrap();
        assert_eq!((file.content.as_slice(), file.mode), (&b"127.0.0.1 localhost\n"[..], 0o640));
    }

    #[test]
    fn what_is_no_small_file_is_refused_by_kind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileError::Directory { .. })));
        assert!(matches!(read(Path::new("/dev/null")), Err(FileError::Special { .. })));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&fifo), Err(FileError::Special { .. })));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(read(&socket), Err(FileError::Special { .. })));
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&large), Err(FileError::TooLarge { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(FileError::Read { .. })));
    }
}
