//! The root file system: read-only images below, an ext4 that takes the writes, one overlay of all. Or a directory that
//! the host shares, as it is.
//!
//! Mounted by the agent in its own mount namespace, of which the container gets a copy: so the agent can still sync it
//! when the container's namespace is gone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use msb_agent::protocol::{Failure, Layer, RootSource};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

use super::place::Place;
use super::volumes::{self, Disk};
use super::{at, plain, setup};
use crate::boot::private_directory;

/// More layers than any host attaches disks for.
const LAYERS_MAX: usize = 16;
/// On the ext4: what the container wrote, and overlayfs' scratch directory.
const WRITTEN: &str = "upper";
const WORK: &str = "work";

/// A mounted root, and the other disks that the container writes to.
#[derive(Debug)]
pub struct Mounted {
    open: Mutex<Option<Open>>,
    /// The disks' end, which can't be had twice: one that had to be frozen refuses all that comes then.
    ended: Once,
}

/// What holds its file systems.
#[derive(Debug)]
struct Open {
    written: OwnedFd,
    disks: Vec<Disk>,
}

impl Mounted {
    /// Everything written is on the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> Result<(), Failure> {
        let open = self.open();
        let Some(open) = &*open else { return Ok(()) };
        for disk in &open.disks {
            disk.sync()?;
        }
        syncfs(open.written.as_fd()).map_err(at(|| "sync the root file system".into()))
    }

    /// [`Self::sync`] for the last time: no process of the container is left. The disks that others mount after it are
    /// as if unmounted; the one of the root is read by the host, which replays its journal. Who comes second, at the
    /// guest's end, waits for the first.
    ///
    /// # Errors
    /// What a disk says, to who came first; the others are ended all the same.
    pub fn end(&self) -> Result<(), Failure> {
        let open = self.open();
        let Some(open) = &*open else { return Ok(()) };
        let mut ended = Ok(());
        self.ended.call_once(|| ended = open.disks.iter().map(Disk::end).fold(Ok(()), Result::and));
        syncfs(open.written.as_fd()).map_err(at(|| "sync the root file system".into())).and(ended)
    }

    /// Holds nothing any more, so that all of it can be unmounted. Nothing is written that would have to be synced.
    pub fn close(&self) {
        *self.open() = None;
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mounts it at its place, with `disks` to be synced as well.
///
/// # Errors
/// [`Failure::Setup`] with what is concerned.
pub fn mount_root(place: &Place, root: &RootSource, disks: Vec<Disk>) -> Result<Mounted, Failure> {
    let joined = place.root();
    private_directory(&joined).map_err(at(|| format!("make {joined}")))?;
    let written = match root {
        RootSource::Disks { layers, scratch } => join(place, layers, scratch)?,
        RootSource::Share { number } => {
            volumes::bind_root(*number, &joined)
                .map_err(plain)
                .map_err(at(|| "mount the shared root".into()))?;
            joined
        }
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let written = open(&*written, flags, Mode::empty()).map_err(at(|| format!("open {written}")))?;
    Ok(Mounted { open: Mutex::new(Some(Open { written, disks })), ended: Once::new() })
}

/// Mounts all devices and joins them; returns where what is written is.
fn join(place: &Place, layers: &[Layer], scratch: &str) -> Result<String, Failure> {
    if layers.is_empty() || layers.len() > LAYERS_MAX {
        return Err(setup("join the root", &format!("it has {} layers", layers.len())));
    }
    let upper = place.upper();
    private_directory(&upper).map_err(at(|| format!("make {upper}")))?;
    let lower = layers.iter().enumerate().map(|(index, layer)| mount_layer(place.layer(index), layer));
    let lower: Vec<String> = lower.collect::<Result<_, _>>()?;
    // What is deleted inside gives its space back on the host.
    mount(Some(scratch), &*upper, Some("ext4"), MsFlags::empty(), Some("discard"))
        .map_err(at(|| format!("mount the writable disk {scratch}")))?;
    make_upper(&upper, &lower[0]).map_err(at(|| format!("prepare the writable disk {scratch}")))?;
    // Each on its own line of history: no renamed directories, no metadata without data. What comes back to the host
    // is then a plain upper directory.
    let layers = format!(
        "lowerdir={},upperdir={upper}/{WRITTEN},workdir={upper}/{WORK},redirect_dir=off,metacopy=off,index=off,xino=off",
        lower.join(":")
    );
    mount(Some("overlay"), &*place.root(), Some("overlay"), MsFlags::empty(), Some(&*layers))
        .map_err(at(|| "join image and writable disk".into()))?;
    Ok(upper)
}

/// Mounts one layer, read-only, and returns where.
fn mount_layer(directory: String, layer: &Layer) -> Result<String, Failure> {
    private_directory(&directory).map_err(at(|| format!("make {directory}")))?;
    // The disk can't be written: a journal could not be replayed.
    let options = (layer.filesystem == "ext4").then_some("noload");
    mount(Some(&*layer.device), &*directory, Some(&*layer.filesystem), MsFlags::MS_RDONLY, options)
        .map_err(at(|| format!("mount the {} image {}", layer.filesystem, layer.device)))?;
    Ok(directory)
}

/// The container's `/` has the upper directory's owner and mode: those of the image's root, unless it was written before.
fn make_upper(disk: &str, image: &str) -> std::io::Result<()> {
    let (work, written) = (format!("{disk}/{WORK}"), format!("{disk}/{WRITTEN}"));
    if !fs::exists(&work)? {
        fs::DirBuilder::new().mode(0o700).create(work)?;
    }
    if fs::exists(&written)? {
        return Ok(());
    }
    let image = fs::metadata(image)?;
    fs::create_dir(&written)?;
    chown(&written, Some(image.uid()), Some(image.gid()))?;
    fs::set_permissions(&written, fs::Permissions::from_mode(image.mode() & 0o7777))
}
