//! Where a root's layers are: the directories that an overlay mount was made of, or the one directory that the root is.
//!
//! In: a root directory as a bundle names it. Out: [`Source`], directories in the order of the overlay, or a device.
//! Docker (overlay2 and the containerd store), containerd and podman all leave their layers to the kernel's overlayfs, and
//! mount options are all that it tells; what it does not tell for sure is not guessed: the root itself is a layer too.
//! It must never change anything, nor know what layers are made into.

mod find;
mod mountinfo;
mod options;
mod verify;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::tree::Marks;
use mountinfo::Mount;

/// The mounts that this thread sees.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";
/// Docker's layer between image and container, made for each container: its directory's name ends like this...
const DOCKER_INIT: &[u8] = b"-init";
/// ...or is a number, and it holds this file.
const DOCKER_FILE: &str = ".dockerenv";

/// The root cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The root itself.
    #[error("Cannot open the root {path:?}: check that it exists and is a directory")]
    Root {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mounts.
    #[error("Cannot read {MOUNTINFO}: check that /proc is mounted")]
    Mounts(#[source] io::Error),
}

/// What a root is made of. All paths are absolute and without symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Directories that overlayfs merges.
    Overlay(Overlay),
    /// The root directory itself is the only layer.
    Plain {
        /// Where it is.
        path: PathBuf,
        /// What keeps it from being one of the others.
        why: Why,
    },
    /// A file system that nothing writes to, mounted as the root.
    Image {
        /// A block device, or the image's file.
        device: PathBuf,
        /// `erofs`, `squashfs` or `ext4`.
        filesystem: String,
    },
}

/// The layers of an overlay, the lowest first in each list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The image's, at least one. Nobody writes to them, and other containers have the same.
    pub chain: Vec<PathBuf>,
    /// The container's own, above those: what the engine made for it, and `upper`.
    pub top: Vec<PathBuf>,
    /// The layer that takes what is written to the root; the last one of `top`. None if the root is read-only.
    pub upper: Option<PathBuf>,
    /// Where the overlay has its notes on files.
    pub marks: Marks,
}

/// Why a root is taken as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// An ordinary directory.
    #[error("It is not a mount of its own")]
    Directory,
    /// A mount of something that is neither an overlay nor an image that holds still.
    #[error("It is a mount of {0}")]
    FileSystem(String),
    /// The root of the file system is not the root of the mount.
    #[error("It is a part of another mount")]
    Bind,
    /// File systems are mounted below it: {0} is one.
    #[error("{0:?} is mounted below it")]
    MountsBelow(PathBuf),
    /// The owners of its files are shown as others than they are.
    #[error("It is an idmapped mount")]
    Idmapped,
    /// Links between files are kept outside of the layers.
    #[error("The overlay has an index of its hard links")]
    Index,
    /// Only the kernel follows the references into them.
    #[error("The overlay has layers for data only")]
    DataOnly,
    /// The options make no sense to this program.
    #[error("The overlay's options are not understood: {0}")]
    Options(&'static str),
    /// A layer by the number of a descriptor in some other process.
    #[error("The overlay was given its layers as open files")]
    Descriptor,
    /// A layer that cannot be found from here.
    #[error("The overlay's layer {0:?} cannot be found")]
    Missing(PathBuf),
    /// What was found is not what is mounted.
    #[error("The overlay's layers hold other files than it shows: {0:?}")]
    Differs(PathBuf),
}

/// Finds out what `root` is made of.
///
/// # Errors
/// [`LayersError`].
pub fn of(root: &Path) -> Result<Source, LayersError> {
    let failed = |source| LayersError::Root { path: root.to_owned(), source };
    let path = fs::canonicalize(root).map_err(failed)?;
    let open = File::open(&path).map_err(failed)?;
    if !open.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let text = fs::read(MOUNTINFO).map_err(LayersError::Mounts)?;
    Ok(match of_mount(&path, &mountinfo::parse(&text), mount_id(&open)) {
        Ok(source) => source,
        Err(why) => Source::Plain { path, why },
    })
}

/// `stx_mnt_id`, which Linux has told since 5.8.
fn mount_id(open: &File) -> Option<u64> {
    let stat = statx(open.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id)
}

fn of_mount(path: &Path, mounts: &[Mount], id: Option<u64>) -> Result<Source, Why> {
    let below = |mount: &&Mount| mount.point != path && mount.point.starts_with(path);
    if let Some(mount) = mounts.iter().find(below) {
        return Err(Why::MountsBelow(mount.point.clone()));
    }
    // Of several mounts in one place the last one is seen.
    let is = |mount: &&Mount| mount.point == path && id.is_none_or(|id| mount.id == id);
    let mount = mounts.iter().rev().find(is).ok_or(Why::Directory)?;
    if mount.root != Path::new("/") {
        return Err(Why::Bind);
    }
    if mount.has(b"idmapped") {
        return Err(Why::Idmapped);
    }
    match mount.filesystem.as_str() {
        "overlay" => overlay(path, mount).map(Source::Overlay),
        "erofs" | "squashfs" => image(mount),
        "ext4" if mount.has_super(b"ro") => image(mount),
        other => Err(Why::FileSystem(other.to_owned())),
    }
}

fn overlay(path: &Path, mount: &Mount) -> Result<Overlay, Why> {
    let options = options::parse(&mount.super_options)?;
    let marks = options.marks;
    let found = find::find(&options, path)?;
    let (mut chain, mut top) = (found.lowers, Vec::new());
    verify::verify(path, chain.iter().chain(&found.upper))?;
    if chain.len() > 1
        && let Some(last) = chain.pop_if(|layer| is_docker_init(layer))
    {
        top.push(last);
    }
    top.extend(found.upper.clone());
    Ok(Overlay { chain, top, upper: found.upper, marks })
}

/// Whether a layer is one that Docker makes for each container. If it is not, it is only composed more often than needed.
fn is_docker_init(layer: &Path) -> bool {
    let parent = layer.parent().and_then(Path::file_name);
    parent.is_some_and(|name| name.as_encoded_bytes().ends_with(DOCKER_INIT))
        || layer.join(DOCKER_FILE).symlink_metadata().is_ok()
}

fn image(mount: &Mount) -> Result<Source, Why> {
    let (major, minor) = mount.device;
    let numbered = PathBuf::from(format!("/dev/block/{major}:{minor}"));
    for device in [Path::new(&mount.source), &numbered] {
        let Ok(device) = fs::canonicalize(device) else { continue };
        let Ok(metadata) = fs::metadata(&device) else { continue };
        let kind = metadata.file_type();
        let number = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        // Since 6.12 an EROFS can be mounted from a file, without a device: then the mount has a number of no device.
        if kind.is_block_device() && number == mount.device || kind.is_file() && major == 0 {
            return Ok(Source::Image { device, filesystem: mount.filesystem.clone() });
        }
    }
    Err(Why::FileSystem(mount.filesystem.clone()))
}
