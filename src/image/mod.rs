//! From a root directory to the disks of a machine, and back.
//!
//! Enters: the bundle's root, a directory. Leaves: what the machine's disks are, the layers of the root (read-only) and an
//! empty ext4 for what is written, which the guest joins by overlayfs; files in a directory of the sandbox's own, and what
//! removes them. At pause and at the end: what was written, in the root again. It never knows KVM or the agent.
//!
//! A root that is one image and only read needs neither: a caller that has not mounted it hands it over ([`RootImage`]).
//!
//! No data is copied: a layer's disk is a composition (`rootfs_builder::composed`), whose data are the layer's own files.
//!
//! **A root that is shared live** (`dev.msb.root=shared`) has no disks, and nothing of this module is made for it. The root
//! that the caller has merged on the host is one more entry of the sandbox's tree of volumes (`host::volumes`), and the
//! agent binds it to where it joins the overlay otherwise. What the container writes is in the caller's upper directory
//! when write(2) returns: `docker cp`, `diff` and `commit` are live both ways. What it costs, and why it is no default:
//! every lookup and every read of a file not yet cached is a request to another process, guest memory must be shared (no
//! huge pages), the container's `execve` reads pages of programs the same way, an error of the guest is an error in the
//! caller's files, and overlayfs inside of the container finds no upper directory (`trusted.*` attributes stay the
//! host's). It is for those who must see files at once.

mod attached;
mod lower;
mod writeback;

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rootfs_builder::{cache::CacheError, composed::ComposeError, ext4, layers::LayersError};

use crate::config::{DiskConfig, RootDisks};
pub use attached::RootImage;
pub use writeback::{BringBackError, Moment, Partly, Root, bring_back, keep, rescue};

/// Whose disks they are, in the directory of disks: the root's path.
const OWNER: &str = "owner";
/// The writable disk, in the directory of disks.
const SCRATCH: &str = "scratch.ext4";

/// Why the disks can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The directory for them.
    #[error("The directory {} for the container's disks can't be made", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What the root is made of.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The image's layers.
    #[error("No disk can be made of the layers of the root {}", root.display())]
    Chain {
        /// `root.path`
        root: PathBuf,
        /// The cause.
        #[source]
        source: Box<CacheError>,
    },
    /// The root's own files.
    #[error("No disk can be made of the root {}", root.display())]
    Compose {
        /// `root.path`
        root: PathBuf,
        /// The cause.
        #[source]
        source: Box<ComposeError>,
    },
    /// The writable disk.
    #[error("The container's writable disk can't be made")]
    Scratch(#[source] Box<ext4::ScratchError>),
    /// They can't be removed.
    #[error("The container's disks in {} can't be removed", path.display())]
    Remove {
        /// Which directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Makes the disks in `dir`, which must not exist: those of `image`, or else of what is in `root`; the writable one has
/// `scratch_bytes`. On failure nothing is left.
///
/// # Errors
/// [`ImageError`].
pub fn prepare(
    dir: &Path,
    root: &Path,
    image: Option<&RootImage>,
    scratch_bytes: u64,
) -> Result<RootDisks, ImageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| ImageError::Directory { path: dir.to_owned(), source })?;
    let made = build(dir, root, image, scratch_bytes);
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = remove(dir);
    }
    made
}

fn build(
    dir: &Path,
    root: &Path,
    image: Option<&RootImage>,
    scratch_bytes: u64,
) -> Result<RootDisks, ImageError> {
    let layers = match image {
        Some(RootImage { path, filesystem }) => {
            vec![(DiskConfig::Raw { path: path.clone(), read_only: true }, *filesystem)]
        }
        None => lower::layers(dir, root)?,
    };
    fs::write(dir.join(OWNER), root.as_os_str().as_bytes())
        .map_err(|source| ImageError::Directory { path: dir.to_owned(), source })?;
    let scratch = dir.join(SCRATCH);
    ext4::create_scratch(&scratch, scratch_bytes).map_err(|source| ImageError::Scratch(Box::new(source)))?;
    let read_only = image.is_some() || writeback::is_read_only(root);
    Ok(RootDisks { layers, scratch: DiskConfig::Raw { path: scratch, read_only: false }, read_only })
}

/// Removes what [`prepare`] made. What is gone is as good. The writable disk goes first: as long as it is there, so is what
/// tells where its content belongs, and which of it came back already.
///
/// # Errors
/// [`ImageError::Remove`].
pub fn remove(dir: &Path) -> Result<(), ImageError> {
    // If that fails, so does the rest, and tells.
    let _ = fs::remove_file(dir.join(SCRATCH));
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::Remove { path: dir.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_becomes_two_disks_and_goes_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "content").unwrap();
        let disks = dir.path().join("disks/one");
        let made = prepare(&disks, &root, None, 1 << 30).unwrap().disks();
        assert_eq!(made.iter().map(DiskConfig::is_read_only).collect::<Vec<_>>(), [true, false]);
        assert_eq!(fs::metadata(disks.join(SCRATCH)).unwrap().len(), 1 << 30);
        remove(&disks).unwrap();
        assert!(!disks.exists());
        remove(&disks).unwrap();
    }

    #[test]
    fn a_failure_leaves_nothing_and_names_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let disks = dir.path().join("disks");
        let error = prepare(&disks, &dir.path().join("none"), None, 1 << 30).unwrap_err();
        assert!(error.to_string().contains("none"));
        assert!(!disks.exists());
    }
}
