//! A sandbox's files as it has them itself: its root, and in it its volumes. For one thread, and for as long as that needs them.
//!
//! In: the root, which is mounted, and the volumes; both are hostile, and in a volume other sandboxes may be writing meanwhile.
//! The thread has a mount namespace of its own, whose root is the sandbox's (pivot_root, the old one detached): whatever a link
//! says, it leads to what the sandbox has itself, and `..` no further than to its root. Nothing there is a device (`nodev`), and
//! a volume that the sandbox may not write can't be written here. There is no /proc.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use msb_runtime::host::volumes::{Entry, ReadOnly, tree};
use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::{chdir, pivot_root},
};
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, move_mount},
};

use super::{Failure, beneath::Beneath};

/// A directory that every Linux has; only the thread's view of it changes, for the moment of the change.
const PLACE: &str = "/proc";

/// A volume, and where a sandbox has it.
#[derive(Debug)]
pub(super) struct Mounted {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox.
    pub target: PathBuf,
    /// Whether the sandbox may not write it.
    pub read_only: bool,
}

/// Why a sandbox's files can't be looked at.
#[derive(Debug, thiserror::Error)]
enum ViewError {
    #[error("No thread can be started")]
    Thread(#[source] io::Error),
    #[error("The sandbox's root can't be made that of a thread: this needs the capability SYS_ADMIN")]
    Root(#[source] io::Error),
    #[error("The volume {} can't be looked at", path.display())]
    Source {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("The volume {} can't be mounted at {}", path.display(), target.display())]
    Target {
        path: PathBuf,
        target: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Does something in a thread whose root is `root`, with the volumes in it. Mount points that are not there are made, as they are
/// when the sandbox is started.
///
/// # Errors
/// Its own; that there is no such view.
pub(super) fn within<T: Send>(
    root: &Path,
    volumes: &[Mounted],
    act: impl FnOnce(&Beneath) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    thread::scope(|scope| {
        let acted = move || {
            enter(root, volumes).map_err(Failure::other)?;
            act(&Beneath::new(Path::new("/")).map_err(Failure::other)?)
        };
        let thread = thread::Builder::new().name("view".into()).spawn_scoped(scope, acted);
        let thread = thread.map_err(|error| Failure::other(ViewError::Thread(error)))?;
        thread.join().unwrap_or_else(|_| Err(Failure::other("The thread that looked at it was lost")))
    })
}

fn enter(root: &Path, volumes: &[Mounted]) -> Result<(), ViewError> {
    // Mounts can be cloned in the namespace that they are in, so before there is another one. The root's own alone: what is
    // mounted beneath it is nothing of the sandbox's.
    let root = clone(root, ReadOnly::No, false)?;
    let clones = volumes.iter().map(|volume| {
        let read_only = if volume.read_only { ReadOnly::Top } else { ReadOnly::No };
        Ok((clone(&volume.source, read_only, true)?, volume))
    });
    let clones = clones.collect::<Result<Vec<_>, ViewError>>()?;
    become_root(&root.mount).map_err(ViewError::Root)?;
    for (clone, volume) in clones {
        attach(&clone, &volume.target).map_err(|source| ViewError::Target {
            path: volume.source.clone(),
            target: volume.target.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Mounts that are attached nowhere.
struct Cloned {
    mount: OwnedFd,
    directory: bool,
}

fn clone(path: &Path, read_only: ReadOnly, recursive: bool) -> Result<Cloned, ViewError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ViewError::Source {
        path: path.to_owned(),
        source,
    };
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| failed(io::Error::from(errno).into()))?;
    let found = File::from(source.try_clone().map_err(|error| failed(error.into()))?);
    let directory = found.metadata().map_err(|error| failed(error.into()))?.is_dir();
    let entry = Entry {
        source: source.as_raw_fd(),
        directory,
        recursive,
        read_only,
        no_access_time: true,
        follows_host: false,
    };
    Ok(Cloned { mount: tree::clone(0, &entry).map_err(|error| failed(error.into()))?, directory })
}

/// The calling thread sees `root`, and nothing else.
fn become_root(root: &OwnedFd) -> io::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What follows is not for others to see; what they unmount is not kept busy here.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    move_mount(root, "", CWD, PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    chdir(PLACE)?;
    // The old root comes to lie over the new one, from where it is taken away: pivot_root(2).
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// Links on the way to `target` lead nowhere else: this is the sandbox's own root.
fn attach(clone: &Cloned, target: &Path) -> io::Result<()> {
    match fs::metadata(target) {
        Ok(there) if there.is_dir() == clone.directory => {}
        Ok(_) if clone.directory => return Err(io::ErrorKind::NotADirectory.into()),
        Ok(_) => return Err(io::ErrorKind::IsADirectory.into()),
        Err(_) if clone.directory => fs::create_dir_all(target)?,
        Err(_) => {
            fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
            File::create_new(target)?;
        }
    }
    Ok(move_mount(&clone.mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::Write as _, os::unix::fs::symlink, path::Component};

    use super::*;

    /// Whether there can be one here; the reason is on the test's output where not.
    pub(in super::super) fn can(test: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let seen = within(dir.path(), &[], |_| Ok(()));
        if let Err(failure) = &seen {
            let reason = format!("no root of its own for a thread ({}): run it as root", failure.chain());
            integration::dev::test::skipped(test, &reason);
        }
        seen.is_ok()
    }

    fn mounted(source: &Path, target: &str, read_only: bool) -> Mounted {
        Mounted { source: source.to_owned(), target: target.into(), read_only }
    }

    #[test]
    fn volumes_are_where_the_sandbox_has_them() {
        if !can("volumes_are_where_the_sandbox_has_them") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [root, data, file] = ["root", "data", "file"].map(|name| dir.path().join(name));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("one"), "1").unwrap();
        fs::write(&file, "host's").unwrap();
        let volumes = [
            mounted(&data, "/new/data", false),
            mounted(&data, "/new/data/again", true),
            mounted(&file, "/etc/hosts", false),
        ];
        within(&root, &volumes, |beneath| {
            for path in ["/new/data/one", "/new/data/again/one"] {
                assert_eq!(beneath.read(Path::new(path), 10).unwrap(), Some(b"1".to_vec()), "{path}");
            }
            assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "host's");
            fs::write("/new/data/two", "2").unwrap();
            let refused = fs::write("/new/data/again/three", "3").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(data.join("two")).unwrap(), "2");
        assert!(root.join("new/data").is_dir() && !root.join("new/data/one").exists(), "as it was before");
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "", "a mount point");
        let none = within(&root, &[mounted(&dir.path().join("none"), "/x", false)], |_| Ok(())).unwrap_err();
        assert!(none.chain().contains("none can't be looked at"), "{}", none.chain());
        let kinds = within(&root, &[mounted(&data, "/etc/hosts", false)], |_| Ok(())).unwrap_err();
        assert!(kinds.chain().contains("can't be mounted at /etc/hosts"), "{}", kinds.chain());
    }

    #[test]
    fn nothing_of_the_host_is_there() {
        if !can("nothing_of_the_host_is_there") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [root, data, canary] = ["root", "data", "canary"].map(|name| dir.path().join(name));
        for directory in [&root, &data, &canary] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(canary.join("file"), "host").unwrap();
        let up: PathBuf = canary.components().skip(1).map(|_| Component::ParentDir).collect();
        for place in [&root, &data] {
            symlink(&canary, place.join("absolute")).unwrap();
            symlink(up.join(canary.strip_prefix("/").unwrap()), place.join("relative")).unwrap();
            symlink("/proc/self/root", place.join("magic")).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let zero = rustix::fs::makedev(1, 5);
            let kind = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, place.join("zero"), kind, mode, zero).unwrap();
        }
        // Where the volume is to be, the sandbox has a link out; the same path it has itself.
        symlink(&canary, root.join("data")).unwrap();
        fs::create_dir_all(root.join(canary.strip_prefix("/").unwrap())).unwrap();
        within(&root, &[mounted(&data, "/data/sub", false)], |_| {
            let of_volume = canary.join("sub");
            for place in [Path::new("/"), &of_volume] {
                assert!(fs::read_dir(place).unwrap().count() >= 4, "{}", place.display());
                for link in ["absolute", "relative", "magic"] {
                    assert!(fs::read(place.join(link).join("file")).is_err(), "{link}");
                }
                let device = File::open(place.join("zero")).unwrap_err();
                assert_eq!(device.kind(), io::ErrorKind::PermissionDenied);
            }
            fs::write("/data/sub/new", "in the volume").unwrap();
            assert!(File::create_new("/absolute/x").unwrap().write_all(b"in the root").is_ok());
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(data.join("new")).unwrap(), "in the volume");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 1);
        assert!(fs::read_dir("/proc/self").is_ok(), "others see what they saw");
    }
}
