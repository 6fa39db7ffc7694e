//! Paths of the container, resolved so that no link in the image leads out of its root.
//!
//! In: a path as the spec has it. Out: a descriptor of exactly that place, to be used by `/proc/self/fd/N`: what was
//! resolved is what is mounted upon, whatever the path's links say later (CVE-2019-19921, CVE-2024-45310).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

/// As the kernel allows in one path (`MAXSYMLINKS`, namei.h).
const LINKS: usize = 40;
/// openat2 says EAGAIN when a rename happened meanwhile.
const RETRIES: usize = 16;

/// What a missing destination becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory, with this mode.
    Directory,
    /// An empty regular file.
    File,
}

/// A directory that is somebody's `/`.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    path: PathBuf,
    /// Whose is what is made.
    owner: (Uid, Gid),
}

impl Beneath {
    /// Of the directory `path`.
    pub fn new(path: &str) -> Result<Self, Errno> {
        let root = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { root, path: PathBuf::from(path), owner: (Uid::from_raw(0), Gid::from_raw(0)) })
    }

    /// What is made from now on is theirs.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (Uid::from_raw(uid), Gid::from_raw(gid));
        self
    }

    /// Gives something that was just made to its owner.
    pub fn give(&self, parent: &OwnedFd, name: &Path) -> Result<(), Errno> {
        let (uid, gid) = self.owner;
        if uid.is_root() && gid.as_raw() == 0 {
            return Ok(());
        }
        fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The root itself.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What `path` leads to now, links followed within the root.
    pub fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, OFlag::O_PATH)
    }

    /// As [`Self::find`], opened with `flags`.
    pub fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // openat2 takes an empty path for an error, even in a root.
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        for _ in 0..RETRIES {
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// What `path` leads to, made with its parents if nothing is there; also the target of a link into nowhere.
    pub fn ensure(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Errno> {
        self.ensure_within(&clean(path), kind, LINKS)
    }

    /// The directory that holds `path`, made if missing, and the last name.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, PathBuf), Errno> {
        let path = clean(path);
        let name = path.file_name().ok_or(Errno::EISDIR)?;
        let parent = self.ensure_within(path.parent().unwrap_or(Path::new("")), Kind::Directory, LINKS)?;
        Ok((parent, PathBuf::from(name)))
    }

    fn ensure_within(&self, path: &Path, kind: Kind, links: usize) -> Result<OwnedFd, Errno> {
        match self.find(path) {
            Ok(found) => return of_kind(found, kind),
            Err(Errno::ENOENT) if links > 0 => {}
            Err(Errno::ENOENT) => return Err(Errno::ELOOP),
            Err(errno) => return Err(errno),
        }
        let name = Path::new(path.file_name().ok_or(Errno::ENOENT)?);
        let parent =
            self.ensure_within(path.parent().unwrap_or(Path::new("")), Kind::Directory, links - 1)?;
        if let Ok(target) = readlinkat(&parent, name) {
            // `join` takes an absolute target as it is, which `clean` then reads from the root.
            return self.ensure_within(&clean(&self.of(&parent)?.join(target)), kind, links - 1);
        }
        match kind {
            Kind::Directory => match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => self.give(&parent, name)?,
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            },
            Kind::File => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::from_bits_truncate(0o644))?;
                self.give(&parent, name)?;
            }
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        of_kind(openat(&parent, name, flags, Mode::empty())?, kind)
    }

    /// Where a directory found before lies, seen from the root.
    fn of(&self, found: &OwnedFd) -> Result<PathBuf, Errno> {
        let path = fs::read_link(by_descriptor(found.as_fd())).map_err(|_| Errno::ENOENT)?;
        path.strip_prefix(&self.path).map(Path::to_path_buf).map_err(|_| Errno::EXDEV)
    }
}

/// The path by which a descriptor is mounted upon.
pub fn by_descriptor(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// Whether it is a directory.
pub fn is_directory(descriptor: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mode = SFlag::from_bits_truncate(fstat(descriptor)?.st_mode & SFlag::S_IFMT.bits());
    Ok(mode == SFlag::S_IFDIR)
}

fn of_kind(found: OwnedFd, kind: Kind) -> Result<OwnedFd, Errno> {
    match (is_directory(found.as_fd())?, kind) {
        (true, Kind::Directory) | (false, Kind::File) => Ok(found),
        (true, Kind::File) => Err(Errno::EISDIR),
        (false, Kind::Directory) => Err(Errno::ENOTDIR),
    }
}

/// Relative to the root, without `.` and `..`; the latter never leads above it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            // An absolute link target after a relative start begins anew: `join` has dropped the start already.
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) if !name.as_bytes().is_empty() => clean.push(name),
            Component::Normal(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Beneath) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("root");
        fs::create_dir(&path).unwrap();
        let beneath = Beneath::new(path.to_str().unwrap()).unwrap();
        (directory, beneath)
    }

    #[test]
    fn missing_parents_are_made() {
        let (_keep, root) = root();
        root.ensure(Path::new("/a/b/c"), Kind::Directory).unwrap();
        root.ensure(Path::new("/a/b/file"), Kind::File).unwrap();
        assert!(root.path.join("a/b/c").is_dir());
        assert!(root.path.join("a/b/file").is_file());
    }

    #[test]
    fn links_stay_within_the_root() {
        let (keep, root) = root();
        let outside = keep.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.path.join("absolute")).unwrap();
        symlink("../../../../outside", root.path.join("relative")).unwrap();
        root.ensure(Path::new("/absolute/x"), Kind::File).unwrap();
        root.ensure(Path::new("/relative/y"), Kind::File).unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(root.path.join("outside/y").is_file());
    }

    #[test]
    fn the_target_of_a_link_into_nowhere_is_made() {
        let (_keep, root) = root();
        fs::create_dir(root.path.join("etc")).unwrap();
        symlink("../run/systemd/resolv.conf", root.path.join("etc/resolv.conf")).unwrap();
        root.ensure(Path::new("/etc/resolv.conf"), Kind::File).unwrap();
        assert!(root.path.join("run/systemd/resolv.conf").is_file());
    }

    #[test]
    fn links_in_a_circle_end() {
        let (_keep, root) = root();
        symlink("b", root.path.join("a")).unwrap();
        symlink("a", root.path.join("b")).unwrap();
        assert_eq!(root.ensure(Path::new("/a"), Kind::File).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn a_file_is_no_directory() {
        let (_keep, root) = root();
        root.ensure(Path::new("f"), Kind::File).unwrap();
        assert_eq!(root.ensure(Path::new("f"), Kind::Directory).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(root.ensure(Path::new("/"), Kind::File).unwrap_err(), Errno::EISDIR);
    }
}
