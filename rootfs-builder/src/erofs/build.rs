//! A directory becomes an image file: walk, lay out, write, copy.
//!
//! In: a root's path and an image's. Out: the image, complete under its name or not there.
//! It must never know the format.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::copy::{CopyError, copy};
use super::layout::{Layout, LayoutError};
use crate::output::{Durability, Output, OutputError};
use crate::tree::{WalkError, walk};

/// No image could be made of this root.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Reading names and metadata.
    #[error("Cannot make an image of {root:?}")]
    Walk {
        /// The root.
        root: PathBuf,
        /// What failed.
        source: WalkError,
    },
    /// Finding a place for everything.
    #[error("Cannot make an image of {root:?}")]
    Layout {
        /// The root.
        root: PathBuf,
        /// What failed.
        source: LayoutError,
    },
    /// Writing the metadata.
    #[error("Cannot write the image {image:?}: check the free space")]
    Write {
        /// The image.
        image: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Copying the files' data.
    #[error("Cannot copy the files of {root:?} into the image {image:?}")]
    Copy {
        /// The root.
        root: PathBuf,
        /// The image.
        image: PathBuf,
        /// What failed.
        source: CopyError,
    },
    /// Making or naming the image's file.
    #[error("Cannot store the image")]
    Output(#[from] OutputError),
}

/// What an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Files of all kinds, hard links counted once.
    pub inodes: usize,
    /// Bytes of metadata at the image's start.
    pub metadata: usize,
    /// Bytes of the whole image; holes in the files are holes in the image.
    pub size: u64,
    /// Directories below the root on which something else is mounted. What it holds is in the image.
    pub mount_points: usize,
}

/// Writes the directory `root` as an EROFS image to `image`, for one run: it need not survive the host's crash.
///
/// # Errors
/// [`BuildError`]; `image` is then as it was before.
pub fn build(root: &Path, image: &Path) -> Result<Summary, BuildError> {
    build_with(root, image, Durability::Throwaway)
}

/// [`build`], with a choice of what has to survive.
///
/// # Errors
/// [`BuildError`]; `image` is then as it was before.
pub fn build_with(root: &Path, image: &Path, durability: Durability) -> Result<Summary, BuildError> {
    let walked = walk(root).map_err(|source| BuildError::Walk { root: root.to_owned(), source })?;
    let layout =
        Layout::plan(&walked.tree).map_err(|source| BuildError::Layout { root: root.to_owned(), source })?;

    let output = Output::create(image)?;
    let file = output.file();
    let written = file.set_len(layout.size()).and_then(|()| file.write_all_at(&layout.metadata, 0));
    written.map_err(|source| BuildError::Write { image: image.to_owned(), source })?;
    copy(&walked, &layout.extents, file).map_err(|source| BuildError::Copy {
        root: root.to_owned(),
        image: image.to_owned(),
        source,
    })?;
    output.commit(durability)?;
    Ok(Summary {
        inodes: walked.tree.inodes(),
        metadata: layout.metadata.len(),
        size: layout.size(),
        mount_points: walked.mount_points.len(),
    })
}
