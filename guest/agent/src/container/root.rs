//! The root file system: an EROFS image below, an ext4 that takes the writes, one overlay of both.
//!
//! Mounted by the agent in its own mount namespace, of which the container gets a copy: so the agent can still sync it
//! when the container's namespace is gone.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};

use msb_agent::protocol::{Failure, Root};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::syncfs;

use super::at;
use crate::boot::private_directory;

/// Where the joined root is mounted.
pub const JOINED: &str = "/run/root";
const LOWER: &str = "/run/lower";
const UPPER: &str = "/run/upper";
/// On the ext4: what the container wrote, and overlayfs' scratch directory.
const WRITTEN: &str = "/run/upper/upper";
const WORK: &str = "/run/upper/work";

/// A mounted root.
#[derive(Debug)]
pub struct Mounted {
    written: OwnedFd,
}

impl Mounted {
    /// Everything written is on the disk.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> Result<(), Failure> {
        syncfs(self.written.as_fd()).map_err(at(|| "sync the root file system".into()))
    }
}

/// Mounts both devices and joins them at [`JOINED`].
///
/// # Errors
/// [`Failure::Setup`] with the device concerned.
pub fn mount_root(root: &Root) -> Result<Mounted, Failure> {
    for directory in [LOWER, UPPER, JOINED] {
        private_directory(directory).map_err(at(|| format!("make {directory}")))?;
    }
    let none = None::<&str>;
    mount(Some(&*root.lower), LOWER, Some("erofs"), MsFlags::MS_RDONLY, none)
        .map_err(at(|| format!("mount the image {}", root.lower)))?;
    mount(Some(&*root.upper), UPPER, Some("ext4"), MsFlags::empty(), none)
        .map_err(at(|| format!("mount the writable disk {}", root.upper)))?;
    make_upper().map_err(at(|| format!("prepare the writable disk {}", root.upper)))?;
    let layers = format!("lowerdir={LOWER},upperdir={WRITTEN},workdir={WORK}");
    mount(Some("overlay"), JOINED, Some("overlay"), MsFlags::empty(), Some(&*layers))
        .map_err(at(|| "join image and writable disk".into()))?;
    let written = open(UPPER, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(at(|| format!("open {UPPER}")))?;
    Ok(Mounted { written })
}

/// The container's `/` has the upper directory's owner and mode: those of the image's root, unless it was written before.
fn make_upper() -> std::io::Result<()> {
    if !fs::exists(WORK)? {
        fs::DirBuilder::new().mode(0o700).create(WORK)?;
    }
    if fs::exists(WRITTEN)? {
        return Ok(());
    }
    let image = fs::metadata(LOWER)?;
    fs::create_dir(WRITTEN)?;
    chown(WRITTEN, Some(image.uid()), Some(image.gid()))?;
    fs::set_permissions(WRITTEN, fs::Permissions::from_mode(image.mode() & 0o7777))
}
