//! The root file system: read-only images below, an ext4 that takes the writes, one overlay of all. Or a directory that
//! the host shares, as it is.
//!
//! Mounted by the agent in its own mount namespace, of which the container gets a copy: so the agent can still sync it
//! when the container's namespace is gone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::sync::Once;

use msb_agent::protocol::{Failure, Layer, RootSource};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

use super::volumes::{self, Disk};
use super::{at, plain, setup};
use crate::boot::private_directory;

/// Where the joined root is mounted.
pub const JOINED: &str = "/run/root";
const UPPER: &str = "/run/upper";
/// More layers than any host attaches disks for.
const LAYERS_MAX: usize = 16;
/// On the ext4: what the container wrote, and overlayfs' scratch directory.
const WRITTEN: &str = "/run/upper/upper";
const WORK: &str = "/run/upper/work";

/// A mounted root, and the other disks that the container writes to.
#[derive(Debug)]
pub struct Mounted {
    written: OwnedFd,
    disks: Vec<Disk>,
    /// The disks' end, which can't be had twice: one that had to be frozen refuses all that comes then.
    ended: Once,
}

impl Mounted {
    /// Everything written is on the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> Result<(), Failure> {
        for disk in &self.disks {
            disk.sync()?;
        }
        syncfs(self.written.as_fd()).map_err(at(|| "sync the root file system".into()))
    }

    /// [`Self::sync`] for the last time: no process of the container is left. The disks that others mount after it are
    /// as if unmounted; the one of the root is read by the host, which replays its journal. Who comes second, at the
    /// guest's end, waits for the first.
    ///
    /// # Errors
    /// What a disk says, to who came first; the others are ended all the same.
    pub fn end(&self) -> Result<(), Failure> {
        let mut ended = Ok(());
        self.ended.call_once(|| ended = self.disks.iter().map(Disk::end).fold(Ok(()), Result::and));
        syncfs(self.written.as_fd()).map_err(at(|| "sync the root file system".into())).and(ended)
    }

    /// With these to be synced as well.
    #[must_use]
    pub fn with(self, disks: Vec<Disk>) -> Self {
        Self { disks, ..self }
    }
}

/// Mounts it at [`JOINED`].
///
/// # Errors
/// [`Failure::Setup`] with what is concerned.
pub fn mount_root(root: &RootSource) -> Result<Mounted, Failure> {
    private_directory(JOINED).map_err(at(|| format!("make {JOINED}")))?;
    let written = match root {
        RootSource::Disks { layers, scratch } => join(layers, scratch)?,
        RootSource::Share { number } => {
            volumes::bind_root(*number).map_err(plain).map_err(at(|| "mount the shared root".into()))?;
            JOINED
        }
    };
    let written = open(written, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(at(|| format!("open {written}")))?;
    Ok(Mounted { written, disks: Vec::new(), ended: Once::new() })
}

/// Mounts all devices and joins them; returns where what is written is.
fn join(layers: &[Layer], scratch: &str) -> Result<&'static str, Failure> {
    if layers.is_empty() || layers.len() > LAYERS_MAX {
        return Err(setup("join the root", &format!("it has {} layers", layers.len())));
    }
    private_directory(UPPER).map_err(at(|| format!("make {UPPER}")))?;
    let lower: Vec<String> = layers.iter().enumerate().map(mount_layer).collect::<Result<_, _>>()?;
    // What is deleted inside gives its space back on the host.
    mount(Some(scratch), UPPER, Some("ext4"), MsFlags::empty(), Some("discard"))
        .map_err(at(|| format!("mount the writable disk {scratch}")))?;
    make_upper(&lower[0]).map_err(at(|| format!("prepare the writable disk {scratch}")))?;
    // Each on its own line of history: no renamed directories, no metadata without data. What comes back to the host
    // is then a plain upper directory.
    let layers = format!(
        "lowerdir={},upperdir={WRITTEN},workdir={WORK},redirect_dir=off,metacopy=off,index=off,xino=off",
        lower.join(":")
    );
    mount(Some("overlay"), JOINED, Some("overlay"), MsFlags::empty(), Some(&*layers))
        .map_err(at(|| "join image and writable disk".into()))?;
    Ok(UPPER)
}

/// Mounts one layer, read-only, and returns where.
fn mount_layer((index, layer): (usize, &Layer)) -> Result<String, Failure> {
    let directory = format!("/run/layer{index}");
    private_directory(&directory).map_err(at(|| format!("make {directory}")))?;
    // The disk can't be written: a journal could not be replayed.
    let options = (layer.filesystem == "ext4").then_some("noload");
    mount(Some(&*layer.device), &*directory, Some(&*layer.filesystem), MsFlags::MS_RDONLY, options)
        .map_err(at(|| format!("mount the {} image {}", layer.filesystem, layer.device)))?;
    Ok(directory)
}

/// The container's `/` has the upper directory's owner and mode: those of the image's root, unless it was written before.
fn make_upper(image: &str) -> std::io::Result<()> {
    if !fs::exists(WORK)? {
        fs::DirBuilder::new().mode(0o700).create(WORK)?;
    }
    if fs::exists(WRITTEN)? {
        return Ok(());
    }
    let image = fs::metadata(image)?;
    fs::create_dir(WRITTEN)?;
    chown(WRITTEN, Some(image.uid()), Some(image.gid()))?;
    fs::set_permissions(WRITTEN, fs::Permissions::from_mode(image.mode() & 0o7777))
}
