//! From a root directory to the disks of a machine.
//!
//! Enters: the bundle's root, a directory. Leaves: two raw images in a directory of the sandbox's own, and a guard
//! that removes them: `/dev/vda`, read-only, the root as EROFS; `/dev/vdb`, an empty ext4 for what is written.
//! The guest joins them by overlayfs. It never knows KVM or the agent.
//!
//! The root is copied at each create. The images are rootfs-builder's; only this module knows that they are files.

mod writeback;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rootfs_builder::{erofs, ext4};

use crate::config::{DiskConfig, FileSystem, RootDisks};
pub use writeback::{BringBackError, Moment, Root, bring_back, keep};

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
    /// The root's image.
    #[error("No image can be made of the root {}", root.display())]
    Root {
        /// `root.path`
        root: PathBuf,
        /// The cause.
        #[source]
        source: Box<erofs::BuildError>,
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

/// Makes the disks in `dir`, which must not exist; the writable one has `scratch_bytes`. On failure nothing is left.
///
/// # Errors
/// [`ImageError`].
pub fn prepare(dir: &Path, root: &Path, scratch_bytes: u64) -> Result<RootDisks, ImageError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| ImageError::Directory { path: dir.to_owned(), source })?;
    let made = build(dir, root, scratch_bytes);
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = remove(dir);
    }
    made
}

fn build(dir: &Path, root: &Path, scratch_bytes: u64) -> Result<RootDisks, ImageError> {
    let (lower, upper) = (dir.join("root.erofs"), dir.join(SCRATCH));
    erofs::build(root, &lower)
        .map_err(|source| ImageError::Root { root: root.to_owned(), source: Box::new(source) })?;
    ext4::create_scratch(&upper, scratch_bytes).map_err(|source| ImageError::Scratch(Box::new(source)))?;
    Ok(RootDisks {
        layers: vec![(DiskConfig::Raw { path: lower, read_only: true }, FileSystem::Erofs)],
        scratch: DiskConfig::Raw { path: upper, read_only: false },
    })
}

/// Removes what [`prepare`] made. What is gone is as good.
///
/// # Errors
/// [`ImageError::Remove`].
pub fn remove(dir: &Path) -> Result<(), ImageError> {
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
        let made = prepare(&disks, &root, 1 << 30).unwrap().disks();
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
        let error = prepare(&disks, &dir.path().join("none"), 1 << 30).unwrap_err();
        assert!(error.to_string().contains("none"));
        assert!(!disks.exists());
    }
}
