//! The root of a sandbox: the image's layers and what it wrote, merged by the host's overlayfs while it runs.
//!
//! The machine has the layers as disks of its own ([`msb_runtime::image`]); the mount is where the runtime learns of them, and
//! where it brings back what was written. Options of a mount are one page long (mount(2)), so that the layers are named
//! relative to the home, by a short link that is made there, in a thread that has a working directory of its own.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::chdir,
};

use super::stored::Place;

/// In the home: a link to the directory of the layers.
const LAYERS: &str = "l";
/// The kernel's page, and with it the most that the options may have.
const OPTIONS: usize = 4096;

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A directory for it.
    #[error("The directory {} can't be made", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Too many layers, or a path that is too long.
    #[error("The image has {layers} layers, more than one mount can have: merge some of them")]
    Layers {
        /// How many.
        layers: usize,
    },
    /// A path that options can't hold.
    #[error("{} has a character that a mount can't have: give another directory in MICROSANDBOX_HOME", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
    },
    /// The kernel's no.
    #[error(
        "The root can't be mounted at {}: this needs the capability SYS_ADMIN, and {} on a file system that overlayfs can \
         write to, which in a container means on a volume",
        root.display(), upper.display()
    )]
    Mount {
        /// Where.
        root: PathBuf,
        /// What is written to.
        upper: PathBuf,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// Somebody still uses it.
    #[error("The root at {} can't be unmounted", root.display())]
    Unmount {
        /// Where.
        root: PathBuf,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// No thread.
    #[error("No thread can be started")]
    Thread(#[source] io::Error),
}

/// Mounts the root of the sandbox at `place` from `layers`, the lowest first, which are below `home`.
///
/// # Errors
/// [`RootError`]
pub fn mount_root(home: &Path, place: &Place, layers: &[PathBuf]) -> Result<(), RootError> {
    let root = place.root();
    for directory in [root.clone(), place.upper(), place.work()] {
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done.map_err(|source| RootError::Directory { path: directory, source })?,
        }
    }
    // What a keeper that was killed has left.
    unmount_root(place)?;
    let options = options(place, layers)?;
    if let Some(all) = layers.first().and_then(|layer| layer.parent()) {
        make_link(all, &home.join(LAYERS))?;
    }
    let (home, target) = (home.to_owned(), root.clone());
    let merged = move || {
        unshare(CloneFlags::CLONE_FS)?;
        chdir(&home)?;
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    };
    let thread = thread::Builder::new().name("mount".into()).spawn(merged).map_err(RootError::Thread)?;
    let done = thread.join().unwrap_or(Err(Errno::ECANCELED));
    done.map_err(|source| RootError::Mount { root, upper: place.upper(), source })
}

/// Whether it is mounted.
pub fn is_mounted(place: &Place) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    device(&place.root()).is_some_and(|device_of_root| Some(device_of_root) != device(&place.0))
}

/// Unmounts it; that it is not mounted is as good.
///
/// # Errors
/// [`RootError::Unmount`]
pub fn unmount_root(place: &Place) -> Result<(), RootError> {
    let root = place.root();
    loop {
        match umount2(&root, MntFlags::UMOUNT_NOFOLLOW) {
            // There may be several, one above the other.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(source) => return Err(RootError::Unmount { root, source }),
        }
    }
}

/// Another one may be made at the same time.
fn make_link(all: &Path, link: &Path) -> Result<(), RootError> {
    match symlink(all, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(|source| RootError::Directory { path: link.to_owned(), source }),
    }
}

fn options(place: &Place, layers: &[PathBuf]) -> Result<String, RootError> {
    let mut lower = Vec::with_capacity(layers.len());
    for layer in layers.iter().rev() {
        let name = layer.file_name().map_or(layer.as_path(), Path::new);
        lower.push(format!("{LAYERS}/{}", plain(name)?));
    }
    let (upper, work) = (place.upper(), place.work());
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), plain(&upper)?, plain(&work)?);
    if options.len() < OPTIONS { Ok(options) } else { Err(RootError::Layers { layers: layers.len() }) }
}

/// Without what separates options and layers (kernel, `filesystems/overlayfs.rst`).
fn plain(path: &Path) -> Result<&str, RootError> {
    let text = path.to_str().filter(|text| !text.contains([',', ':', '\\', '"']));
    text.ok_or_else(|| RootError::Path { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_by_the_link_and_the_uppermost_comes_first() {
        let place = Place("/home/namespaces/n/s".into());
        let layers = ["/home/images/l/a", "/home/images/l/b"].map(PathBuf::from);
        assert_eq!(
            options(&place, &layers).unwrap(),
            "lowerdir=l/b:l/a,upperdir=/home/namespaces/n/s/upper,workdir=/home/namespaces/n/s/work"
        );
        let many: Vec<PathBuf> = (0..127).map(|n| format!("/home/images/l/{n:026}").into()).collect();
        options(&place, &many).unwrap();
        let more: Vec<PathBuf> = (0..200).map(|n| format!("/home/images/l/{n:026}").into()).collect();
        options(&place, &more).unwrap_err();
        options(&Place("/a,b".into()), &layers).unwrap_err();
    }
}
