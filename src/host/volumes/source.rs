//! The source of a bind mount: found once, then known by its descriptor alone.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, fstatfs};

/// Why a bind mount can't be had. Docker takes some words for an error of the container's command: none is used here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("The bind mount's source {} does not exist: create it first", path.display())]
    Missing {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// It can't be opened.
    #[error("The bind mount's source {} can't be opened (errno {errno})", path.display())]
    Open {
        /// `mounts[].source`
        path: PathBuf,
        /// Linux error number: the kernel's words would be taken for the command's.
        errno: i32,
    },
    /// A unix socket: its other end is a process of the host.
    #[error(
        "The bind mount's source {} is a socket of the host, which a microVM's own kernel can't connect to: \
         reach the service over the network instead", path.display()
    )]
    Socket {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// A fifo: likewise.
    #[error(
        "The bind mount's source {} is a fifo of the host, whose other end a microVM's own kernel does not see: \
         use a file in a directory", path.display()
    )]
    Fifo {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// A device node.
    #[error(
        "The bind mount's source {} is a device of the host, which a microVM does not have: \
         a block device can be mounted by the type of its file system", path.display()
    )]
    Device {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// Not an image.
    #[error(
        "The mount's source {} is neither an image file nor a block device, which its type asks for", path.display()
    )]
    Image {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// `/proc` of the host.
    #[error(
        "The bind mount's source {} belongs to the host's /proc: a microVM has a kernel of its own, whose /proc \
         the container sees", path.display()
    )]
    Proc {
        /// `mounts[].source`
        path: PathBuf,
    },
    /// Cgroups of the host.
    #[error(
        "The bind mount's source {} belongs to the host's cgroups: a microVM has a kernel of its own, whose cgroups \
         the container sees; all of them are bound by /sys/fs/cgroup itself", path.display()
    )]
    Cgroup {
        /// `mounts[].source`
        path: PathBuf,
    },
}

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File {
        /// Now.
        size: u64,
    },
}

/// A source that was found.
#[derive(Debug)]
pub struct Source {
    file: File,
    kind: Kind,
    path: PathBuf,
}

impl Source {
    /// A directory or a regular file, by its path.
    ///
    /// # Errors
    /// [`SourceError`]
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, metadata, path) = find(path)?;
        // Their files have no size: through a page cache they are empty. And what is written there, the host does.
        match fstatfs(&file).map(|fs| fs.filesystem_type()) {
            Ok(PROC_SUPER_MAGIC) => return Err(SourceError::Proc { path }),
            Ok(CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC) => return Err(SourceError::Cgroup { path }),
            Ok(_) | Err(_) => {}
        }
        let kind = metadata.file_type();
        let kind = match () {
            () if kind.is_dir() => Kind::Directory,
            () if kind.is_file() => Kind::File { size: metadata.len() },
            () if kind.is_socket() => return Err(SourceError::Socket { path }),
            () if kind.is_fifo() => return Err(SourceError::Fifo { path }),
            () => return Err(SourceError::Device { path }),
        };
        Ok(Self { file, kind, path })
    }

    /// An image file or a block device, by its path.
    ///
    /// # Errors
    /// [`SourceError`]
    pub fn open_image(path: &Path) -> Result<Self, SourceError> {
        let (file, metadata, path) = find(path)?;
        let kind = metadata.file_type();
        if kind.is_file() || kind.is_block_device() {
            Ok(Self { file, kind: Kind::File { size: metadata.len() }, path })
        } else {
            Err(SourceError::Image { path })
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor's number.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// A path by which to open just this, whatever lies at its name by now.
    #[must_use]
    pub fn by_descriptor(&self) -> PathBuf {
        by_descriptor(self.number())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What `path` leads to, links followed, as runc does.
fn find(path: &Path) -> Result<(File, Metadata, PathBuf), SourceError> {
    let path = path.to_owned();
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&path);
    match opened.and_then(|file| file.metadata().map(|metadata| (file, metadata))) {
        Ok((file, metadata)) => Ok((file, metadata, path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SourceError::Missing { path }),
        Err(error) => Err(SourceError::Open { path, errno: errno(&error) }),
    }
}

/// The number of an error, for texts that must not have the kernel's words.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}

/// A path that leads to what a descriptor of this process is open on.
pub(super) fn by_descriptor(number: RawFd) -> PathBuf {
    Path::new("/proc/self/fd").join(number.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn directories_and_files_are_told_apart_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let source = Source::open(&link).unwrap();
        assert_eq!(source.kind(), Kind::Directory);
        fs::rename(&real, dir.path().join("moved")).unwrap();
        symlink("/etc", &real).unwrap();
        fs::write(dir.path().join("moved/file"), "12345").unwrap();
        let file = Source::open(&source.by_descriptor().join("file")).unwrap();
        assert_eq!(file.kind(), Kind::File { size: 5 });
    }

    #[test]
    fn what_a_machine_can_not_share_is_refused_by_kind() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(Source::open(&fifo), Err(SourceError::Fifo { .. })));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(Source::open(&socket), Err(SourceError::Socket { .. })));
        assert!(matches!(Source::open(Path::new("/dev/null")), Err(SourceError::Device { .. })));
        assert!(matches!(Source::open(Path::new("/proc/sys")), Err(SourceError::Proc { .. })));
        assert!(matches!(Source::open(&dir.path().join("none")), Err(SourceError::Missing { .. })));
    }
}
