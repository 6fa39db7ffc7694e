//! Volumes: what the host shares by virtiofs, bound to its places in the container.
//!
//! The share is mounted once, where only the helper sees it: it is left behind with the agent's root, and each volume
//! lives on as its bind mount. The guest's flags are for the container to see and to keep to; what must not be written
//! is read-only on the host. A mount beneath a volume on the host appears here when a path first leads into it
//! (`fuse_dentry_automount`), with the flags of the mount above it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use msb_agent::protocol::VOLUMES_TAG;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::beneath::{Beneath, Kind, by_descriptor};
use super::options::Options;
use crate::boot::private_directory;

/// Where the share is mounted.
const PLACE: &str = "/run/volumes";
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
    let place = root.ensure(destination, kind)?;
    let source = format!("{PLACE}/{number}");
    mount(Some(&*source), &*by_descriptor(place.as_fd()), NONE, MsFlags::MS_BIND, NONE)?;
    let top = root.find(destination)?;
    if !options.flags.is_empty() {
        let flags = options.flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(NONE, &*by_descriptor(top.as_fd()), NONE, flags, NONE)?;
    }
    Ok(top)
}
