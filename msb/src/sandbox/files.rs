//! Files of a volume, for who has no sandbox that has it.
//!
//! In: paths that anybody gave, in a directory whose content sandboxes wrote, and may be writing. Each is looked up beneath the
//! volume: neither `..` nor a link leads out of it. A file is written beside its place and put there as a whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{beneath::Beneath, stored::random_id};

/// The files of one directory.
#[derive(Debug)]
pub struct Files(Beneath);

/// A file, as it is found; a link is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name in its directory; empty: the volume itself.
    pub name: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes.
    pub size: u64,
    /// st_mode(7) without its kind.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Whose group's.
    pub gid: u32,
    /// When it was read, as far as its file system notes that.
    pub accessed: SystemTime,
    /// When it was written.
    pub modified: SystemTime,
}

/// A file that is being written. Who drops it has written nothing.
#[derive(Debug)]
pub struct NewFile {
    directory: OwnedFd,
    name: String,
    temporary: String,
    file: File,
    done: bool,
}

/// Files of a directory that are told at most.
const MOST: usize = 100_000;

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// A path's parts; none: the volume itself.
fn parts(path: &str) -> io::Result<Vec<&str>> {
    if path.contains('\0') {
        return Err(invalid("A path has no zero bytes"));
    }
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("A path has no `..`")),
        }
    }
    Ok(parts)
}

impl Files {
    /// Of that directory.
    ///
    /// # Errors
    /// The system's.
    pub fn of(directory: &Path) -> io::Result<Self> {
        Ok(Self(Beneath::new(directory)?))
    }

    /// The directory in which the last part of a path is, and that part.
    fn place(&self, path: &str) -> io::Result<(OwnedFd, String)> {
        let parts = parts(path)?;
        let Some((last, parents)) = parts.split_last() else {
            return Err(invalid("This is the volume itself"));
        };
        let parents: PathBuf = [Path::new("/")].into_iter().chain(parents.iter().map(Path::new)).collect();
        Ok((self.0.directory(&parents)?, (*last).to_owned()))
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let path: PathBuf =
            [Path::new("/")].into_iter().chain(parts(path)?.into_iter().map(Path::new)).collect();
        self.0.directory(&path)
    }

    /// What is known of one.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::InvalidInput`] for a path that is none.
    pub fn stat(&self, path: &str) -> io::Result<FileInfo> {
        if parts(path)?.is_empty() {
            return Ok(info(String::new(), &fstat(self.directory(path)?)?));
        }
        let (directory, name) = self.place(path)?;
        let found = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(info(name, &found))
    }

    /// Those of a directory, by name.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn list(&self, path: &str) -> io::Result<Vec<FileInfo>> {
        let mut directory = Dir::from_fd(self.directory(path)?)?;
        let mut names = Vec::new();
        for entry in directory.iter().take(MOST) {
            let entry = entry?;
            names.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        names.sort_unstable();
        let stat = |name: String| {
            // One that is gone by now is no error.
            let found = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            Some(info(name, &found))
        };
        Ok(names.into_iter().filter_map(stat).collect())
    }

    /// A file to be read.
    ///
    /// # Errors
    /// As for [`Self::stat`]; it may be no file.
    pub fn read(&self, path: &str) -> io::Result<File> {
        let (directory, name) = self.place(path)?;
        // Not to be held up by a pipe that nobody writes to.
        let flags =
            OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(openat(&directory, name.as_str(), flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(invalid("This is no file")) }
    }

    /// A file to be written, in place of what is there.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn write(&self, path: &str) -> io::Result<NewFile> {
        let (directory, name) = self.place(path)?;
        let temporary = format!(".msb-{}", random_id()?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&directory, temporary.as_str(), flags, Mode::from_bits_truncate(0o644))?;
        Ok(NewFile { directory, name, temporary, file: file.into(), done: false })
    }

    /// Makes a directory, and those that it is in.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut at = PathBuf::from("/");
        for part in parts(path)? {
            let parent = self.0.directory(&at)?;
            match mkdirat(&parent, part, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => at.push(part),
                Err(errno) => return Err(errno.into()),
            }
        }
        self.0.directory(&at).map(drop)
    }

    /// Removes one; `all`: also a directory with what is in it.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn remove(&self, path: &str, all: bool) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        let found = fstatat(&directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if !is_directory(&found) {
            return Ok(unlinkat(&directory, name.as_str(), UnlinkatFlags::NoRemoveDir)?);
        }
        if all {
            // It follows no link on its way down.
            return fs::remove_dir_all(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
        }
        Ok(unlinkat(&directory, name.as_str(), UnlinkatFlags::RemoveDir)?)
    }

    /// Copies a file.
    ///
    /// # Errors
    /// As for [`Self::stat`]; a directory is not copied.
    pub fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        let mut read = self.read(from)?;
        let mut written = self.write(to)?;
        io::copy(&mut read, &mut written.file)?;
        written.finish()
    }

    /// Gives one another path.
    ///
    /// # Errors
    /// As for [`Self::stat`].
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let ((here, name), (there, wanted)) = (self.place(from)?, self.place(to)?);
        Ok(renameat2(&here, name.as_str(), &there, wanted.as_str(), RenameFlags::empty())?)
    }
}

impl NewFile {
    /// Writes what comes next.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<()> {
        // A host that goes down must find the old file or the new one, and not an empty one.
        self.file.sync_all()?;
        let (from, to) = (self.temporary.as_str(), self.name.as_str());
        renameat2(&self.directory, from, &self.directory, to, RenameFlags::empty())?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            // The first error was told.
            let _ = unlinkat(&self.directory, self.temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn is_directory(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn info(name: String, found: &FileStat) -> FileInfo {
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    FileInfo {
        name,
        directory: is_directory(found),
        size: u64::try_from(found.st_size).unwrap_or_default(),
        mode: found.st_mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        accessed: time(found.st_atime),
        modified: time(found.st_mtime),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(files: &Files, path: &str, text: &str) -> io::Result<()> {
        let mut file = files.write(path)?;
        file.add(text.as_bytes())?;
        file.finish()
    }

    fn text(files: &Files, path: &str) -> io::Result<String> {
        files.read(path).and_then(io::read_to_string)
    }

    #[test]
    fn files_are_written_as_a_whole_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path()).unwrap();
        files.make_directory("a/b").unwrap();
        files.make_directory("/a/b/").unwrap();
        put(&files, "a/b/one", "1").unwrap();
        put(&files, "/a/b/one", "one").unwrap();
        files.write("a/b/half").unwrap().add(b"half").unwrap();
        let names = |path| files.list(path).unwrap().into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names("a/b"), ["one"]);
        let one = files.stat("a/b/one").unwrap();
        assert_eq!((one.size, one.directory, one.mode & 0o600), (3, false, 0o600));
        assert!(files.stat("/").unwrap().directory && files.stat("a").unwrap().directory);
        files.copy("a/b/one", "two").unwrap();
        files.rename("two", "a/three").unwrap();
        assert_eq!((text(&files, "a/three").unwrap(), names("/")), ("one".into(), vec!["a".to_owned()]));
        files.remove("a", false).unwrap_err();
        files.remove("a/three", false).unwrap();
        files.remove("a", true).unwrap();
        assert_eq!(files.stat("a").unwrap_err().kind(), io::ErrorKind::NotFound);
        for bad in ["/", "", ".", "a/../../etc", "..", "a\0b"] {
            assert_eq!(files.remove(bad, true).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, volume) = (dir.path().join("outside"), dir.path().join("volume"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(outside.join("secret"), "theirs").unwrap();
        symlink(&outside, volume.join("out")).unwrap();
        symlink(outside.join("secret"), volume.join("secret")).unwrap();
        let files = Files::of(&volume).unwrap();
        assert!(text(&files, "out/secret").is_err() && text(&files, "secret").is_err());
        assert!(files.list("out").is_err() && put(&files, "out/new", "x").is_err());
        put(&files, "secret", "ours").unwrap();
        files.remove("out", true).unwrap();
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(text(&files, "secret").unwrap(), "ours");
        nix::unistd::mkfifo(&volume.join("pipe"), Mode::S_IRWXU).unwrap();
        assert!(text(&files, "pipe").is_err());
    }
}
