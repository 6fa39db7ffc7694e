//! Volumes: what the host shares by virtiofs, and file systems on disks of their own, bound to their places in the
//! container.
//!
//! The share is mounted once, where only the helper sees it: it is left behind with the agent's root, and each volume
//! lives on as its bind mount. The guest's flags are for the container to see and to keep to; what must not be written
//! is read-only on the host. A mount beneath a volume on the host appears here when a path first leads into it
//! (`fuse_dentry_automount`), with the flags of the mount above it.
//!
//! Disks are mounted by the agent itself, before there is a helper: it brings what was written to them when the container
//! has ended or is to stand still.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use msb_agent::protocol::{Failure, Mount, MountSource, VOLUMES_TAG};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::beneath::{Beneath, Kind, by_descriptor};
use super::options::{self, Options};
use super::{at, plain};
use crate::boot::private_directory;

/// Where the share is mounted.
const PLACE: &str = "/run/volumes";
/// Where disks are mounted, each at the number of its mount.
const DISKS: &str = "/run/disks";
const NONE: Option<&str> = None;

/// Binds volume `number` to `destination`; the share is mounted with the first.
pub fn bind(
    root: &Beneath,
    destination: &Path,
    (number, kind): (u32, Kind),
    options: &Options,
    mounted: &mut bool,
) -> Result<OwnedFd, Errno> {
    if !*mounted {
        private_directory(PLACE)?;
        mount(Some(VOLUMES_TAG), PLACE, Some("virtiofs"), MsFlags::empty(), NONE)?;
        *mounted = true;
    }
    bind_path(root, destination, kind, &format!("{PLACE}/{number}"), options)
}

/// Binds the disk of mount `number` to `destination`.
pub fn bind_disk(
    root: &Beneath,
    destination: &Path,
    number: u32,
    options: &Options,
) -> Result<OwnedFd, Errno> {
    bind_path(root, destination, Kind::Directory, &disk(number), options)
}

/// Mounts every disk among `mounts`; returns those that can be written, for [`super::root::Mounted`].
///
/// # Errors
/// [`Failure::Setup`] with the destination concerned.
pub fn mount_disks(mounts: &[Mount]) -> Result<Vec<OwnedFd>, Failure> {
    let mut written = Vec::new();
    for (number, entry) in (0..).zip(mounts) {
        let MountSource::Disk { device, filesystem, read_only } = &entry.source else { continue };
        let options = options::parse(&entry.options);
        let place = disk(number);
        let step = || format!("mount {filesystem} at {}", entry.destination);
        private_directory(DISKS).and_then(|()| private_directory(&place)).map_err(plain).map_err(at(step))?;
        let flags = if *read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let data = (!options.data.is_empty()).then_some(&*options.data);
        mount(Some(&**device), &*place, Some(&**filesystem), flags, data).map_err(plain).map_err(at(step))?;
        if !read_only {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            written.push(open(&*place, flags, Mode::empty()).map_err(plain).map_err(at(step))?);
        }
    }
    Ok(written)
}

fn disk(number: u32) -> String {
    format!("{DISKS}/{number}")
}

fn bind_path(
    root: &Beneath,
    destination: &Path,
    kind: Kind,
    source: &str,
    options: &Options,
) -> Result<OwnedFd, Errno> {
    // A file upon a directory: with runc's word, which Docker explains to its user.
    let place = root.ensure(destination, kind).map_err(|errno| match errno {
        Errno::EISDIR => Errno::ENOTDIR,
        other => other,
    })?;
    mount(Some(source), &*by_descriptor(place.as_fd()), NONE, MsFlags::MS_BIND, NONE)?;
    let top = root.find(destination)?;
    if !options.flags.is_empty() {
        let flags = options.flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(NONE, &*by_descriptor(top.as_fd()), NONE, flags, NONE)?;
    }
    Ok(top)
}
