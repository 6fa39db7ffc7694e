//! Volumes: what the host shares by virtiofs, and file systems on disks of their own, bound to their places in the
//! container.
//!
//! The share is mounted once, by the agent, before the first helper that needs it, and stays: of several mounts, the kernel
//! would show in a later one what is beneath a volume that is still in use, as if it were the whole share (it tells file
//! systems of one device apart by nothing else). A helper leaves its copy behind with the agent's root, and each volume
//! lives on as its bind mount. The guest's flags are for the container to see and
//! to keep to; what must not be written is read-only on the host. A mount beneath a volume on the host appears here when
//! a path first leads into it (`fuse_dentry_automount`), with the flags of the mount above it.
//!
//! Disks are mounted by the agent itself, before there is a helper: it brings what was written to them when the container
//! is to stand still, and ends them with it, so that whoever mounts them next finds nothing to be replayed.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use msb_agent::protocol::{Failure, Mount, MountSource, VOLUMES_TAG};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::unistd::syncfs;

use super::beneath::{Beneath, Kind, by_descriptor};
use super::options::{self, Options};
use super::place::Place;
use super::{at, plain, setup};
use crate::boot::private_directory;
use crate::sys;

/// Where the share is mounted.
const PLACE: &str = "/run/volumes";
/// Where memory is mounted that containers share, each by its name.
const SHARED: &str = "/run/shared";
const NONE: Option<&str> = None;
/// What ext4 means by EROFS on a disk that can't be written.
const UNCLEAN: &str = "it was not unmounted when it was last in use (a crash), and its journal can't be replayed where \
                       it can't be written: run e2fsck -p on it, or mount it once for writing; with the option noload it \
                       is shown as it is";
/// How long after the container's last process something of it may still write to a disk: the kernel lets go of mounts
/// and files a little later.
const PATIENCE: Duration = Duration::from_millis(500);

/// A disk that the container writes to.
#[derive(Debug)]
pub struct Disk {
    place: String,
    top: OwnedFd,
    destination: String,
}

impl Disk {
    /// What was written is on it.
    ///
    /// # Errors
    /// [`Failure::Setup`] with the destination concerned.
    pub fn sync(&self) -> Result<(), Failure> {
        syncfs(self.top.as_fd()).map_err(plain).map_err(at(|| format!("sync {}", self.destination)))
    }

    /// Leaves it as an unmounted one: its journal empty, itself marked clean. The file system becomes read-only rather
    /// than unmounted, since mounts that the container's namespaces left behind may hold it. What still writes then is
    /// no process (a loop device, a swap file): it is stopped in the middle, as by a snapshot.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn end(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            match mount(NONE, &*self.place, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, NONE) {
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Err(Errno::EBUSY) => break sys::freeze(self.top.as_fd()),
                ended => break ended,
            }
        };
        ended.map_err(plain).map_err(at(|| format!("unmount {}", self.destination)))
    }
}

/// Binds volume `number` to `destination`.
pub fn bind(
    root: &Beneath,
    destination: &Path,
    (number, kind): (u32, Kind),
    options: &Options,
) -> Result<OwnedFd, Errno> {
    bind_path(root, destination, kind, &format!("{PLACE}/{number}"), options)
}

/// Mounts the share for volumes among `mounts`, unless there are none.
///
/// # Errors
/// [`Failure::Setup`].
pub fn mount_share_for(mounts: &[Mount]) -> Result<(), Failure> {
    if !mounts.iter().any(|entry| matches!(entry.source, MountSource::Volume { .. })) {
        return Ok(());
    }
    mount_share().map_err(plain).map_err(at(|| "mount the volumes".into()))
}

/// Mounts the share, for a root that is in it, and binds that to `joined`.
pub fn bind_root(number: u32, joined: &str) -> Result<(), Errno> {
    mount_share()?;
    mount(Some(&*format!("{PLACE}/{number}")), joined, NONE, MsFlags::MS_BIND, NONE)
}

/// Makes all memory among `mounts` that containers share and that is not there yet. It stays for the guest's life.
///
/// # Errors
/// [`Failure::Setup`] with the destination concerned.
pub fn mount_shared(mounts: &[Mount]) -> Result<(), Failure> {
    for entry in mounts {
        let MountSource::Shared { name } = &entry.source else { continue };
        let step = || format!("mount shared memory at {}", entry.destination);
        if name.is_empty() || name.contains(['/', '.']) {
            return Err(setup(step(), &"its name is none of a file"));
        }
        let place = format!("{SHARED}/{name}");
        if fs::exists(&place).map_err(at(step))? {
            continue;
        }
        let options = options::parse(&entry.options);
        private_directory(SHARED)
            .and_then(|()| private_directory(&place))
            .map_err(plain)
            .map_err(at(step))?;
        let data = (!options.data.is_empty()).then_some(&*options.data);
        let mounted = mount(Some("tmpfs"), &*place, Some("tmpfs"), options.flags, data);
        if mounted.is_err() {
            // The next container is to try again.
            let _ = fs::remove_dir(&place);
        }
        mounted.map_err(plain).map_err(at(step))?;
    }
    Ok(())
}

/// Binds the shared memory `name` to `destination`.
pub fn bind_shared(
    root: &Beneath,
    destination: &Path,
    name: &str,
    options: &Options,
) -> Result<OwnedFd, Errno> {
    bind_path(root, destination, Kind::Directory, &format!("{SHARED}/{name}"), options)
}

/// By the agent, one container at a time.
fn mount_share() -> Result<(), Errno> {
    if statfs(PLACE).is_ok_and(|place| place.filesystem_type() == FUSE_SUPER_MAGIC) {
        return Ok(());
    }
    private_directory(PLACE)?;
    mount(Some(VOLUMES_TAG), PLACE, Some("virtiofs"), MsFlags::empty(), NONE)
}

/// Binds the disk of mount `number` to `destination`.
pub fn bind_disk(
    root: &Beneath,
    destination: &Path,
    (place, number): (&Place, u32),
    options: &Options,
) -> Result<OwnedFd, Errno> {
    bind_path(root, destination, Kind::Directory, &disk(place, number), options)
}

/// Mounts every disk among `mounts`; returns those that can be written, for [`super::root::Mounted`].
///
/// One that was left without its end, and is to be read only, is refused: without its journal (`noload`) it may show
/// halves of what was done to it, which only its user can want.
///
/// # Errors
/// [`Failure::Setup`] with the destination concerned.
pub fn mount_disks(own: &Place, mounts: &[Mount]) -> Result<Vec<Disk>, Failure> {
    let mut written = Vec::new();
    for (number, entry) in (0..).zip(mounts) {
        let MountSource::Disk { device, filesystem, read_only } = &entry.source else { continue };
        let options = options::parse(&entry.options);
        let place = disk(own, number);
        let step = || format!("mount {filesystem} at {}", entry.destination);
        private_directory(&own.disks())
            .and_then(|()| private_directory(&place))
            .map_err(plain)
            .map_err(at(step))?;
        let flags = if *read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let data = (!options.data.is_empty()).then_some(&*options.data);
        let mounted = mount(Some(&**device), &*place, Some(&**filesystem), flags, data);
        if (mounted, *read_only) == (Err(Errno::EROFS), true) {
            return Err(setup(step(), &UNCLEAN));
        }
        mounted.map_err(plain).map_err(at(step))?;
        if !read_only {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let top = open(&*place, flags, Mode::empty()).map_err(plain).map_err(at(step))?;
            written.push(Disk { place, top, destination: entry.destination.clone() });
        }
    }
    Ok(written)
}

fn disk(place: &Place, number: u32) -> String {
    format!("{}/{number}", place.disks())
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
