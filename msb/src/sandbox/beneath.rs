//! Files in a sandbox's root, as the host reads and writes them while nothing runs in it: what a sandbox left there is hostile,
//! and no link of it leads out of the root.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat, openat2, renameat2},
    sys::stat::{Mode, fchmod},
    unistd::{UnlinkatFlags, unlinkat},
};

/// The root.
#[derive(Debug)]
pub struct Beneath(OwnedFd);

/// openat2(2) says EAGAIN where something was renamed meanwhile.
const RETRIES: usize = 16;

impl Beneath {
    /// Of the directory `root`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(open(root, flags, Mode::empty())?))
    }

    /// The beginning of a file, at most so many bytes; none where there is no regular file.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
        // Not to be held up by a pipe that nobody writes to.
        let file = match self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Replaces what is called `name` in `directory`, but for a directory. Where `directory` is none, nothing is done.
    ///
    /// # Errors
    /// The system's.
    pub fn replace(&self, directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
        let directory = match self.open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let temporary = format!(".{name}.msb");
        match unlinkat(&directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&directory, temporary.as_str(), flags, Mode::from_bits_truncate(0o644))?;
        let mut file = File::from(file);
        fchmod(&file, Mode::from_bits_truncate(0o644))?;
        file.write_all(content)?;
        let renamed = renameat2(&directory, temporary.as_str(), &directory, name, RenameFlags::empty());
        if renamed.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(&directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        Ok(renamed?)
    }

    /// The directory that `path` leads to.
    ///
    /// # Errors
    /// The system's; it may be no directory.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)
    }

    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 0..RETRIES {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN) => {}
                done => return done,
            }
        }
        Err(Errno::EAGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use test_skips::{race, rounds};

    use super::*;

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, root) = (dir.path().join("outside"), dir.path().join("root"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("hosts"), "theirs").unwrap();
        fs::create_dir_all(root.join("real")).unwrap();
        symlink(&outside, root.join("etc")).unwrap();
        let beneath = Beneath::new(&root).unwrap();
        assert_eq!(beneath.read(Path::new("etc/hosts"), 100).unwrap(), None);
        beneath.replace(Path::new("etc"), "hosts", b"ours").unwrap();
        assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "theirs");
        symlink(outside.join("hosts"), root.join("real/hosts")).unwrap();
        beneath.replace(Path::new("/real"), "hosts", b"ours").unwrap();
        assert_eq!(fs::read_to_string(outside.join("hosts")).unwrap(), "theirs");
        assert_eq!(beneath.read(Path::new("real/hosts"), 2).unwrap(), Some(b"ou".to_vec()));
    }

    /// As when a root is looked at that somebody changes meanwhile: links that come and go lead nowhere either.
    #[test]
    fn no_link_that_comes_meanwhile_leads_out() {
        use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let [canary, root, link] = ["canary", "root", "link"].map(|name| dir.path().join(name));
        fs::create_dir(&canary).unwrap();
        fs::write(canary.join("hosts"), "secret").unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink(&canary, &link).unwrap();
        let beneath = Beneath::new(&root).unwrap();
        let (end, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        let mut read = 0_u32;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let here = open(dir.path(), OFlag::O_PATH, Mode::empty()).unwrap();
                while !end.load(Ordering::Relaxed) {
                    renameat2(&here, "root/etc", &here, "link", RenameFlags::RENAME_EXCHANGE).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            race(rounds(500), || {
                // It may be told to try again later; never is it the host's.
                let _ = beneath.replace(Path::new("etc"), "hosts", b"ours");
                let found = beneath.read(Path::new("etc/hosts"), 100).unwrap_or_default();
                assert!(found.is_none() || found.as_deref() == Some(b"ours"), "{found:?}");
                read += u32::from(found.is_some());
                swaps.load(Ordering::Relaxed) > 100 && read > 0
            });
            end.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(canary.join("hosts")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
        assert!(swaps.load(Ordering::Relaxed) > 100 && read > 0, "it was a race");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", dir.path().join("zero")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let beneath = Beneath::new(dir.path()).unwrap();
        for name in ["pipe", "zero", "loop", "none", "."] {
            assert_eq!(beneath.read(Path::new(name), 10).unwrap(), None, "{name}");
        }
    }
}
