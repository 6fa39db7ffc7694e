//! `mounts`, in order, beneath the root that is not yet the container's `/`.
//!
//! Runs in the helper, in the container's namespaces: a `proc` mounted here shows the container's processes.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use msb_agent::protocol::{Failure, Mount, MountSource};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::fstat;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::beneath::{Beneath, Kind, by_descriptor};
use super::options::{self, Options};
use super::place::Place;
use super::users::Owners;
use super::{at, plain, volumes};
use crate::boot::{errno, private_directory};

const NONE: Option<&str> = None;

/// Mounts everything. What is still to be made read-only is told, because later mounts may need a place in it.
///
/// # Errors
/// [`Failure::Setup`] with the destination concerned.
pub fn mount_all(
    (root, own): (&Beneath, &Place),
    mounts: &[Mount],
    owners: Owners<'_>,
) -> Result<Vec<Late>, Failure> {
    let mut late = Vec::new();
    for (number, entry) in (0..).zip(mounts) {
        let mut options = options::parse(&entry.options);
        let destination = Path::new(&entry.destination);
        let done = match &entry.source {
            MountSource::Kernel { filesystem } => {
                options.own(filesystem, owners)?;
                mount_kernel(root, destination, filesystem, &options)
            }
            MountSource::Disk { .. } => volumes::bind_disk(root, destination, (own, number), &options),
            MountSource::Volume { number: volume, directory } => {
                let kind = if *directory { Kind::Directory } else { Kind::File };
                volumes::bind(root, destination, (*volume, kind), &options)
            }
            MountSource::Shared { name } => volumes::bind_shared(root, destination, name, &options),
            MountSource::File { content, mode, uid, gid } => store(own, number, content, (*mode, *uid, *gid))
                .and_then(|file| bind_file(root, destination, &file, &options)),
        };
        let top = done.map_err(|errno| failed(entry, errno))?;
        for flags in &options.propagation {
            mount(NONE, &*by_descriptor(top.as_fd()), NONE, *flags, NONE)
                .map_err(|errno| failed(entry, errno))?;
        }
        if options.flags.contains(MsFlags::MS_RDONLY) && is_tmpfs(&entry.source) {
            late.push(Late { top, destination: entry.destination.clone() });
        }
    }
    Ok(late)
}

/// A mount that becomes read-only once everything is in its place.
#[derive(Debug)]
pub struct Late {
    top: OwnedFd,
    destination: String,
}

/// Makes the last mounts read-only.
///
/// # Errors
/// [`Failure::Setup`] with the destination concerned.
pub fn close(late: &[Late]) -> Result<(), Failure> {
    for entry in late {
        make_read_only(entry.top.as_fd())
            .map_err(plain)
            .map_err(at(|| format!("make {} read-only", entry.destination)))?;
    }
    Ok(())
}

/// Makes the mount that `top` is the root of read-only, its other flags as they are.
pub fn make_read_only(top: BorrowedFd<'_>) -> Result<(), Errno> {
    let now = fstatvfs(top)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (is, keep) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        flags.set(keep, now.contains(is));
    }
    mount(NONE, &*by_descriptor(top), NONE, flags, NONE)
}

fn mount_kernel(
    root: &Beneath,
    destination: &Path,
    filesystem: &str,
    options: &Options,
) -> Result<OwnedFd, Errno> {
    // Asked for as version 1: controllers are named then, of which version 2 has all in one place.
    let (filesystem, data) = match filesystem {
        "cgroup" => ("cgroup2", ""),
        other => (other, &*options.data),
    };
    let mut data = data.to_owned();
    let mut flags = options.flags;
    if filesystem == "tmpfs" {
        flags.remove(MsFlags::MS_RDONLY);
        if let Ok(found) = root.find(destination) {
            // A directory of the image keeps its mode, unless one is asked for: the last one counts.
            let mode = fstat(&found)?.st_mode & 0o7777;
            data = format!("mode={mode:04o}{}{data}", if data.is_empty() { "" } else { "," });
        }
    }
    let place = root.ensure(destination, Kind::Directory)?;
    let data = (!data.is_empty()).then_some(&*data);
    mount(Some(filesystem), &*by_descriptor(place.as_fd()), Some(filesystem), flags, data)?;
    let top = root.find(destination)?;
    if options.copy_up && filesystem == "tmpfs" {
        super::paths::copy_up(&place, &top)?;
    }
    Ok(top)
}

fn bind_file(root: &Beneath, destination: &Path, file: &str, options: &Options) -> Result<OwnedFd, Errno> {
    let place = root.ensure(destination, Kind::File)?;
    mount(Some(file), &*by_descriptor(place.as_fd()), NONE, MsFlags::MS_BIND, NONE)?;
    let top = root.find(destination)?;
    if !options.flags.is_empty() {
        let flags = options.flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(NONE, &*by_descriptor(top.as_fd()), NONE, flags, NONE)?;
    }
    Ok(top)
}

/// Where the file that is the source of mount `number` lies, on the agent's tmpfs.
pub fn stored(place: &Place, number: u32) -> String {
    format!("{}/{number}", place.files())
}

/// Writes a file of the host where only the agent can reach it by name.
fn store(
    place: &Place,
    number: u32,
    content: &[u8],
    (mode, uid, gid): (u32, u32, u32),
) -> Result<String, Errno> {
    private_directory(&place.files())?;
    let path = stored(place, number);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        chown(&path, Some(uid), Some(gid))?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
    };
    write().map_err(|error: std::io::Error| errno(&error))?;
    Ok(path)
}

fn is_tmpfs(source: &MountSource) -> bool {
    matches!(source, MountSource::Kernel { filesystem } if filesystem == "tmpfs")
}

fn failed(entry: &Mount, errno: Errno) -> Failure {
    let what = match &entry.source {
        MountSource::Kernel { filesystem } => filesystem,
        MountSource::Disk { filesystem, .. } => filesystem,
        MountSource::Volume { .. } => "a volume",
        MountSource::Shared { .. } => "shared memory",
        MountSource::File { .. } => "a file",
    };
    super::setup(format!("mount {what} at {}", entry.destination), &plain(errno))
}
