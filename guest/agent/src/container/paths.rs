//! `linux.maskedPaths`, `linux.readonlyPaths`, the working directory, and `tmpcopyup`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use msb_agent::protocol::Failure;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::beneath::{Beneath, by_descriptor, is_directory};
use super::mounts::make_read_only;
use super::{at, plain};
use crate::boot::{errno, private_directory};

/// Bound over masked directories: empty, and made read-only at each place.
const EMPTY: &str = "/run/empty";
const NONE: Option<&str> = None;
/// Directories within directories that `tmpcopyup` follows.
const DEPTH: usize = 64;

/// Hides `paths`. What isn't there needs no hiding.
///
/// # Errors
/// [`Failure::Setup`] with the path concerned.
pub fn mask(root: &Beneath, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        mask_one(root, Path::new(path)).map_err(plain).map_err(at(|| format!("mask {path}")))?;
    }
    Ok(())
}

/// Makes `paths` read-only, each a mount of its own. What isn't there is skipped.
///
/// # Errors
/// [`Failure::Setup`] with the path concerned.
pub fn protect(root: &Beneath, paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        protect_one(root, Path::new(path)).map_err(plain).map_err(at(|| format!("make {path} read-only")))?;
    }
    Ok(())
}

fn mask_one(root: &Beneath, path: &Path) -> Result<(), Errno> {
    let Some(found) = existing(root, path)? else { return Ok(()) };
    let target = by_descriptor(found.as_fd());
    if !is_directory(found.as_fd())? {
        return mount(Some("/dev/null"), &*target, NONE, MsFlags::MS_BIND, NONE);
    }
    // One directory for all: a tmpfs each would be a superblock each.
    private_directory(EMPTY)?;
    fs::set_permissions(EMPTY, fs::Permissions::from_mode(0o755)).map_err(|error| errno(&error))?;
    mount(Some(EMPTY), &*target, NONE, MsFlags::MS_BIND, NONE)?;
    make_read_only(root.find(path)?.as_fd())
}

fn protect_one(root: &Beneath, path: &Path) -> Result<(), Errno> {
    let Some(found) = existing(root, path)? else { return Ok(()) };
    let target = by_descriptor(found.as_fd());
    mount(Some(&*target), &*target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    make_read_only(root.find(path)?.as_fd())
}

fn existing(root: &Beneath, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match root.find(path) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Copies what lay at `place`, and its owner, into the tmpfs mounted over it. No container process runs yet, so nothing
/// changes meanwhile.
pub fn copy_up(place: &OwnedFd, tmpfs: &OwnedFd) -> Result<(), Errno> {
    let (from, to) = (by_descriptor(place.as_fd()), by_descriptor(tmpfs.as_fd()));
    let copied = fs::metadata(&from).and_then(|image| {
        chown(&to, Some(image.uid()), Some(image.gid()))?;
        copy_directory(Path::new(&from), Path::new(&to), DEPTH)
    });
    copied.map_err(|error| errno(&error))
}

fn copy_directory(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() && depth > 0 {
            fs::create_dir(&target)?;
            copy_directory(&source, &target, depth - 1)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
        } else if kind.is_fifo()
            || kind.is_socket()
            || kind.is_char_device()
            || kind.is_block_device()
            || kind.is_dir()
        {
            continue;
        }
        lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        if !kind.is_symlink() {
            fs::set_permissions(&target, metadata.permissions())?;
        }
    }
    Ok(())
}
