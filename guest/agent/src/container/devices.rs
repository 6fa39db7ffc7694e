//! `/dev`: the nodes every container has, those of `linux.devices`, and the usual links.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use msb_agent::protocol::{Device, DeviceKind, Failure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, major, makedev, minor, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::beneath::{Beneath, Kind, by_descriptor};
use super::users::Owners;
use super::{at, plain, setup};

/// OCI runtime-spec, config-linux.md, "Default Devices": name, major, minor (kernel's devices.txt).
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// More devices than any guest of ours has.
const ALL: usize = 4096;

/// OCI runtime-spec, runtime-linux.md, "Dev symbolic links", and `/dev/core` as runc makes it.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
];

/// Makes nodes and links. What the image has already stays, as with runc.
///
/// # Errors
/// [`Failure::Setup`] with the path concerned.
pub fn make_all(root: &Beneath, devices: &[Device], all: bool, owners: Owners<'_>) -> Result<(), Failure> {
    for device in devices {
        let step = || format!("make the device {}", device.path);
        if !exists(device) {
            let Device { major, minor, .. } = device;
            return Err(setup(step(), &format!("the machine has no device {major}:{minor}")));
        }
        let uid = owners.uid(device.uid)?;
        let device = Device { uid, gid: owners.gid(device.gid)?, ..device.clone() };
        make(root, &device).map_err(plain).map_err(at(step))?;
    }
    let (uid, gid) = (owners.uid(0)?, owners.gid(0)?);
    let found = if all { own() } else { Vec::new() };
    for device in found {
        let device = Device { uid, gid, ..device };
        make(root, &device).map_err(plain).map_err(at(|| format!("make the device {}", device.path)))?;
    }
    for (path, major, minor) in DEFAULT {
        let device =
            Device { path: path.into(), kind: DeviceKind::Char, major, minor, mode: 0o666, uid, gid };
        make(root, &device).map_err(plain).map_err(at(|| format!("make the device {path}")))?;
    }
    for (target, path) in LINKS {
        link(root, target, path).map_err(plain).map_err(at(|| format!("make the link {path}")))?;
    }
    pseudo_terminals(root).map_err(plain).map_err(at(|| "make the link /dev/ptmx".into()))
}

/// Whether the guest has a driver for it. Loop devices come into being when one is asked for.
fn exists(device: &Device) -> bool {
    device.kind != DeviceKind::Char
        || fs::exists(format!("/sys/dev/char/{}:{}", device.major, device.minor)).unwrap_or(true)
}

/// Every device of the guest, as its kernel names them (devtmpfs). What each container has anyway, and what is its
/// terminals', is left out.
fn own() -> Vec<Device> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), 2, &mut found);
    found
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<Device>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(path), Ok(metadata)) = (entry.path().into_os_string().into_string(), entry.metadata()) else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() && depth > 0 && !matches!(path.as_str(), "/dev/pts" | "/dev/shm" | "/dev/mqueue") {
            collect(Path::new(&path), depth - 1, found);
            continue;
        }
        let kind = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => DeviceKind::Char,
            (_, true) => DeviceKind::Block,
            _ => continue,
        };
        let numbers = (u32::try_from(major(metadata.rdev())), u32::try_from(minor(metadata.rdev())));
        if let ((Ok(major), Ok(minor)), false, true) =
            (numbers, matches!(path.as_str(), "/dev/console" | "/dev/ptmx"), found.len() < ALL)
        {
            let mode = metadata.mode() & 0o7777;
            found.push(Device { path, kind, major, minor, mode, uid: 0, gid: 0 });
        }
    }
}

/// Shows the terminal at `/dev/console`, as runc does.
///
/// # Errors
/// [`Failure::Setup`].
pub fn bind_console(root: &Beneath, terminal: impl AsFd) -> Result<(), Failure> {
    let none = None::<&str>;
    root.ensure(Path::new("/dev/console"), Kind::File)
        .and_then(|place| {
            let target = by_descriptor(place.as_fd());
            mount(Some(&*by_descriptor(terminal.as_fd())), &*target, none, MsFlags::MS_BIND, none)
        })
        .map_err(plain)
        .map_err(at(|| "show the terminal at /dev/console".into()))
}

fn make(root: &Beneath, device: &Device) -> Result<(), Errno> {
    let (parent, name) = root.parent(Path::new(&device.path))?;
    let kind = match device.kind {
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Fifo => SFlag::S_IFIFO,
    };
    let mode = Mode::from_bits_truncate(device.mode & 0o7777);
    match mknodat(&parent, &name, kind, mode, makedev(device.major.into(), device.minor.into())) {
        Err(Errno::EEXIST) => return Ok(()),
        other => other?,
    }
    // The helper's umask is 0, so the mode is right already; set-id bits go with the owner.
    let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
    if device.uid != 0 || device.gid != 0 {
        fchownat(&parent, &name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        fchmodat(&parent, &name, mode, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}

fn link(root: &Beneath, target: &str, path: &str) -> Result<(), Errno> {
    let (parent, name) = root.parent(Path::new(path))?;
    match symlinkat(target, &parent, &name) {
        Ok(()) => root.give(&parent, &name),
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// `/dev/ptmx` must be the container's own devpts', so an image's node is replaced.
fn pseudo_terminals(root: &Beneath) -> Result<(), Errno> {
    let (parent, name) = root.parent(Path::new("/dev/ptmx"))?;
    match unlinkat(&parent, &name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    symlinkat("pts/ptmx", &parent, &name)?;
    root.give(&parent, &name)?;
    openat(&parent, &name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).map(drop)
}
