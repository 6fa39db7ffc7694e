//! Files out of a sandbox and into it, as an archive (tar) that passes through: nothing is stored on the way.
//!
//! Out: from the root on the host, into which a sandbox that runs brings what it wrote while it stands still for a moment, and from
//! its volumes. So any image will do, and links are read as links. In: into the root and the volumes of one that does not run; in
//! one that runs by its own `tar`. What a sandbox holds is hostile, and in its volumes others may be writing: all of it is looked
//! at from within ([`view`]), where no link leads out. What it has in memory (tmpfs) is not seen.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    thread,
};

use msb_runtime::{
    state::{StateError, Status},
    verbs::{VerbError, pause, resume, words},
};
use nix::{
    dir::Dir,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
    unistd::pipe,
};
use tar::{Builder, EntryType, Header};

use super::{
    Exec, Failure, Key, Request, Sandboxes,
    attach::PAUSES,
    beneath::Beneath,
    root,
    sandboxes::PATIENCE,
    stored::Place,
    view::{self, Mounted},
};

/// How deep directories are in directories.
const DEEP: usize = 256;

impl Sandboxes {
    /// Writes what is at `path` to an archive, in which it is called `name`.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Bad`] where nothing is at the path.
    pub fn copy_out(
        &self,
        key: &Key,
        path: &Path,
        name: &OsStr,
        to: impl Write + Send,
    ) -> Result<(), Failure> {
        self.at_rest(key, |root| {
            let (parent, last) = split(path);
            let found = root.directory(parent).and_then(|directory| {
                let mut archive = Builder::new(to);
                match last {
                    Some(last) => add(&mut archive, directory.as_fd(), last, &PathBuf::from(name), 0)?,
                    None => add_all(&mut archive, &directory, &PathBuf::from(name), 0)?,
                }
                archive.finish()
            });
            found.map_err(|error| wrong(path, &error))
        })
    }

    /// Puts what an archive holds into the directory at `path`.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::Bad`] where there is no such directory; [`Failure::NoProgram`] where a sandbox that runs
    /// has no `tar`.
    pub fn copy_in(&self, key: &Key, path: &Path, mut from: impl Read + Send) -> Result<(), Failure> {
        let (_, stored) = self.find(key)?;
        if self.entry(&stored).is_some() {
            return self.copy_in_running(key, path, from);
        }
        self.at_rest(key, |_| unpack(path, &mut from).map_err(|error| wrong(path, &error)))
    }

    fn copy_in_running(&self, key: &Key, path: &Path, mut from: impl Read) -> Result<(), Failure> {
        let (input, ours) = pipe().map_err(Failure::other)?;
        let (said, errors) = pipe().map_err(Failure::other)?;
        let null: OwnedFd = File::options().write(true).open("/dev/null").map_err(Failure::other)?.into();
        let program = Exec { user: Some("0".into()), ..Exec::of(&["tar", "-x", "-f", "-", "-C"]) };
        let args = [program.args, vec![path.to_string_lossy().into_owned()]].concat();
        let exec = Exec { args, ..program };
        // What it says ends with the program, or at once where there is none.
        let listen = move || io::read_to_string(File::from(said).take(400)).unwrap_or_default();
        let told = thread::Builder::new().name("copy".into()).spawn(listen).map_err(Failure::other)?;
        let running = self.begin(key, &exec, [input, null, errors], true, None)?;
        let copied = io::copy(&mut from, &mut File::from(ours));
        let exit = running.wait();
        let told = told.join().unwrap_or_default();
        if exit.code() != 0 {
            return Err(Failure::Bad(format!("{} can't be copied to: {}", path.display(), told.trim())));
        }
        copied.map(drop).map_err(Failure::other)
    }

    /// Whether a directory is at `path`.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`]
    pub fn has_directory(&self, key: &Key, path: &Path) -> Result<bool, Failure> {
        self.at_rest(key, |root| Ok(root.directory(path).is_ok()))
    }

    /// Does something in the root while the sandbox writes nothing to it, and all that it wrote is in it.
    fn at_rest<T: Send>(
        &self,
        key: &Key,
        act: impl FnOnce(&Beneath) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let (place, stored) = self.find(key)?;
        let Some(entry) = self.entry(&stored) else { return self.mounted(key, act) };
        // Its keeper sees to it that it goes on if this process is killed; without one that is the next command's.
        let _watched = self.dial(key, PAUSES);
        let entry = entry.locked().map_err(VerbError::from)?;
        match standing(pause::pause(&entry), || entry.record().map(|record| record.status()))? {
            Standing::ForUs => {
                let done = self.within(&place, &stored.request, act);
                resume::resume(&entry)?;
                done
            }
            Standing::Already => self.within(&place, &stored.request, act),
            Standing::Ended => {
                // Its keeper brings what it wrote.
                drop(entry);
                if !self.await_rest(&place, &stored, PATIENCE)? {
                    return Err(Failure::Runs(key.clone()));
                }
                self.mounted(key, act)
            }
        }
    }

    /// With the root of one that does not run.
    fn mounted<T: Send>(
        &self,
        key: &Key,
        act: impl FnOnce(&Beneath) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.while_at_rest(key, |place, stored| {
            root::mount_root(self.home().path(), place, &stored.layers).map_err(Failure::other)?;
            let done = self.within(place, &stored.request, act);
            root::unmount_root(place).map_err(Failure::other)?;
            done
        })
    }

    /// With the volumes in the root, which is mounted.
    fn within<T: Send>(
        &self,
        place: &Place,
        request: &Request,
        act: impl FnOnce(&Beneath) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.make_volumes(request).map_err(Failure::other)?;
        let volumes = request.volumes.iter().map(|volume| Mounted {
            source: volume.source.path(self.home()),
            target: volume.target.clone(),
            read_only: volume.read_only,
        });
        view::within(&place.root(), &volumes.collect::<Vec<_>>(), act)
    }
}

/// How what runs stands still.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// For as long as we need. A copy that was killed may have left it so.
    ForUs,
    /// It waits for its start, and has not written anything yet.
    Already,
    /// It runs no more.
    Ended,
}

/// What came of a pause. While what was written is not in the root, there is nothing to be read there.
fn standing(
    paused: Result<(), VerbError>,
    status: impl FnOnce() -> Result<Status, StateError>,
) -> Result<Standing, VerbError> {
    match paused {
        Ok(()) => Ok(Standing::ForUs),
        Err(VerbError::State(StateError::NotRunning)) => Ok(match status()? {
            // What it wrote has been brought.
            Status::Paused => Standing::ForUs,
            Status::Created => Standing::Already,
            Status::Stopped | Status::Creating | Status::Running => Standing::Ended,
        }),
        Err(error) => Err(error),
    }
}

/// Puts what an archive holds into the directory at `path` of this thread's root, which is the sandbox's.
fn unpack(path: &Path, from: impl Read) -> io::Result<()> {
    let path = Path::new("/").join(path);
    if !fs::metadata(&path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    archive.unpack(path)
}

fn wrong(path: &Path, error: &io::Error) -> Failure {
    // An archive's own words are of no use without their cause.
    Failure::Bad(format!("{} can't be copied: {}", path.display(), words::chain(error)))
}

/// The directory and the name in it; no name: the root itself, or a directory that is given by what is in it.
fn split(path: &Path) -> (&Path, Option<&OsStr>) {
    match path.file_name() {
        Some(last) => (path.parent().unwrap_or(Path::new("/")), Some(last)),
        None => (path, None),
    }
}

/// One of `directory`, as it is: links are links, and what is neither a file nor a directory is left out.
fn add(
    archive: &mut Builder<impl Write>,
    directory: impl AsFd,
    last: &OsStr,
    name: &Path,
    deep: usize,
) -> io::Result<()> {
    let stat = fstatat(&directory, last, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            add_all(archive, &openat(&directory, last, flags, Mode::empty())?, name, deep)
        }
        SFlag::S_IFREG => {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = File::from(openat(&directory, last, flags, Mode::empty())?);
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(());
            }
            let mut header = header(&fstat(&file)?, EntryType::Regular);
            header.set_size(metadata.size());
            archive.append_data(&mut header, name, file.take(metadata.size()))
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(&directory, last)?;
            archive.append_link(&mut header(&stat, EntryType::Symlink), name, target)
        }
        _ => Ok(()),
    }
}

fn add_all(
    archive: &mut Builder<impl Write>,
    directory: &OwnedFd,
    name: &Path,
    deep: usize,
) -> io::Result<()> {
    if deep > DEEP {
        return Err(io::Error::other("directories are too deep in each other"));
    }
    archive.append_data(&mut header(&fstat(directory)?, EntryType::Directory), name, io::empty())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(directory.try_clone()?)?.iter() {
        let entry = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if entry != "." && entry != ".." {
            names.push(entry);
        }
    }
    names.sort();
    for entry in names {
        add(archive, directory, &entry, &name.join(&entry), deep + 1)?;
    }
    Ok(())
}

fn header(stat: &FileStat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use test_skips::{race, rounds};

    use super::*;

    fn archived(root: &Path, path: &str) -> Vec<(String, Vec<u8>)> {
        let beneath = Beneath::new(root).unwrap();
        let (parent, last) = split(Path::new(path));
        let mut archive = Builder::new(Vec::new());
        let directory = beneath.directory(parent).unwrap();
        match last {
            Some(last) => add(&mut archive, &directory, last, Path::new("name"), 0).unwrap(),
            None => add_all(&mut archive, &directory, Path::new("name"), 0).unwrap(),
        }
        let bytes = archive.into_inner().unwrap();
        let mut archive = tar::Archive::new(&*bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect()
    }

    /// Whatever the sandbox has put where something is to be copied to: nothing of the host's is written, made or changed.
    #[test]
    fn what_goes_in_stays_in() {
        if !view::tests::can("what_goes_in_stays_in") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [canary, root] = ["canary", "root"].map(|name| dir.path().join(name));
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::write(canary.join("file"), "host").unwrap();
        let modes = || {
            [&canary, &canary.join("sub"), &canary.join("file")].map(|path| {
                let stat = fs::metadata(path).unwrap();
                (stat.mode(), stat.mtime_nsec(), stat.uid())
            })
        };
        let before = modes();
        let entries: [(&str, EntryType); 3] =
            [("d", EntryType::Directory), ("d/file", EntryType::Regular), ("d/sub", EntryType::Directory)];
        let mut archive = Builder::new(Vec::new());
        for (name, kind) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o777);
            header.set_size(if kind == EntryType::Regular { 4 } else { 0 });
            header.set_mtime(1);
            header.set_uid(0);
            header.set_gid(0);
            archive
                .append_data(&mut header, name, &b"ours"[..if kind == EntryType::Regular { 4 } else { 0 }])
                .unwrap();
        }
        let archive = archive.into_inner().unwrap();
        type Trap = fn(&Path, &Path);
        let traps: [Trap; 6] = [
            |root, canary| symlink(canary, root.join("d")).unwrap(),
            |root, _| symlink("../canary", root.join("d")).unwrap(),
            |root, canary| {
                fs::create_dir(root.join("d")).unwrap();
                symlink(canary.join("file"), root.join("d/file")).unwrap();
            },
            |root, canary| {
                fs::create_dir(root.join("d")).unwrap();
                symlink(canary.join("sub"), root.join("d/sub")).unwrap();
            },
            |root, canary| {
                fs::create_dir(root.join("d")).unwrap();
                // A second name of a file of the host is what a container can't make: it is a volume's at most.
                symlink(canary.join("new"), root.join("d/file")).unwrap();
            },
            |root, _| {
                fs::create_dir(root.join("d")).unwrap();
                symlink("/proc/self/root", root.join("d/sub")).unwrap();
            },
        ];
        for trap in traps {
            let _old = fs::remove_dir_all(&root);
            fs::create_dir(&root).unwrap();
            trap(&root, &canary);
            // It may be refused.
            let _ = view::within(&root, &[], |_| Ok(unpack(Path::new("/"), &*archive)));
            assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "host");
            assert_eq!(fs::read_dir(&canary).unwrap().count(), 2);
            assert_eq!(modes(), before);
        }
        // The place itself may be reached by a link, but only within.
        let _old = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("canary")).unwrap();
        symlink("/canary", root.join("to")).unwrap();
        view::within(&root, &[], |_| Ok(unpack(Path::new("/to"), &*archive))).unwrap().unwrap();
        assert_eq!(fs::read_to_string(root.join("canary/d/file")).unwrap(), "ours");
        assert_eq!(modes(), before);
    }

    /// A volume in which somebody else writes meanwhile: what is copied there is written in the sandbox or nowhere.
    #[test]
    fn no_link_that_comes_meanwhile_takes_what_goes_in_out() {
        use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
        if !view::tests::can("no_link_that_comes_meanwhile_takes_what_goes_in_out") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [root, volume, canary] = ["root", "volume", "canary"].map(|name| dir.path().join(name));
        for directory in [&root, &volume.join("d"), &canary] {
            fs::create_dir_all(directory).unwrap();
        }
        symlink(&canary, volume.join("link")).unwrap();
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_mode(0o777);
        header.set_size(4);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, "d/file", &b"ours"[..]).unwrap();
        let archive = archive.into_inner().unwrap();
        let mounted = [Mounted { source: volume.clone(), target: "/volume".into(), read_only: false }];
        let (end, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        let mut done = 0_u32;
        thread::scope(|scope| {
            scope.spawn(|| {
                use nix::fcntl::{RenameFlags, renameat2};
                let here = Dir::open(&volume, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
                while !end.load(Ordering::Relaxed) {
                    renameat2(&here, "d", &here, "link", RenameFlags::RENAME_EXCHANGE).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            race(rounds(200), || {
                let unpacked = view::within(&root, &mounted, |_| Ok(unpack(Path::new("/volume"), &*archive)));
                done += u32::from(unpacked.unwrap().is_ok());
                swaps.load(Ordering::Relaxed) > 100 && done > 0
            });
            end.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
        assert!(swaps.load(Ordering::Relaxed) > 100 && done > 0, "it was a race");
    }

    #[test]
    fn only_what_stands_still_is_read() {
        let not_running = || Err(VerbError::State(StateError::NotRunning));
        assert_eq!(standing(Ok(()), || panic!("not asked")).unwrap(), Standing::ForUs);
        assert_eq!(standing(not_running(), || Ok(Status::Paused)).unwrap(), Standing::ForUs);
        assert_eq!(standing(not_running(), || Ok(Status::Created)).unwrap(), Standing::Already);
        assert_eq!(standing(not_running(), || Ok(Status::Stopped)).unwrap(), Standing::Ended);
        let gone = standing(not_running(), || Err(StateError::DoesNotExist)).unwrap_err();
        assert!(matches!(gone, VerbError::State(StateError::DoesNotExist)));
        let kept = standing(Err(VerbError::NotLent), || Ok(Status::Paused)).unwrap_err();
        assert!(matches!(kept, VerbError::NotLent), "what was written is not there");
    }

    #[test]
    fn what_becomes_a_link_meanwhile_is_not_followed_out() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let [root, canary, link] = ["root", "canary", "link"].map(|name| dir.path().join(name));
        for directory in [root.join("data/sub"), canary.join("sub")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(root.join("data/sub/file"), "inside").unwrap();
        fs::write(canary.join("sub/file"), "secret").unwrap();
        symlink(&canary, &link).unwrap();
        let end = AtomicBool::new(false);
        let mut seen = 0_u32;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    // One name is always there: a file takes the place of another by a rename.
                    let aside = dir.path().join("aside");
                    fs::rename(root.join("data"), &aside).unwrap();
                    fs::rename(&link, root.join("data")).unwrap();
                    fs::rename(root.join("data"), &link).unwrap();
                    fs::rename(&aside, root.join("data")).unwrap();
                }
            });
            let beneath = Beneath::new(&root).unwrap();
            race(rounds(500), || {
                let mut archive = Builder::new(Vec::new());
                let added = beneath.directory(Path::new("/")).and_then(|directory| {
                    add(&mut archive, &directory, OsStr::new("data"), Path::new("data"), 0)
                });
                let bytes = archive.into_inner().unwrap();
                assert!(!bytes.windows(6).any(|part| part == b"secret"));
                seen += u32::from(added.is_ok());
                seen > 0
            });
            end.store(true, Ordering::Relaxed);
        });
        assert!(seen > 0, "it was there at least once");
    }

    #[test]
    fn a_tree_comes_out_and_no_link_is_followed_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("data/sub")).unwrap();
        fs::write(dir.path().join("secret"), "host").unwrap();
        fs::write(root.join("data/sub/file"), "inside").unwrap();
        symlink("../../secret", root.join("data/link")).unwrap();
        symlink(dir.path(), root.join("out")).unwrap();
        nix::unistd::mkfifo(&root.join("data/pipe"), Mode::S_IRWXU).unwrap();
        let all = archived(&root, "/data");
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["name", "name/link", "name/sub", "name/sub/file"]);
        assert_eq!(all[3].1, b"inside");
        assert!(Beneath::new(&root).unwrap().directory(Path::new("/out")).is_err());
        assert_eq!(archived(&root, "/data/sub/file")[0].1, b"inside");
        assert_eq!(archived(&root, "/").len(), 6);
    }
}
