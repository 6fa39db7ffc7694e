//! Disks that are open: what a machine is given, by whoever may open them.

use std::fs::File;

use rootfs_builder::composed::CompositionError;

use super::BuildError;
use super::boot::FileProblem;
use super::virtio::block::composed::Composed;
pub use super::virtio::block::composed::{Files, Layers};
use super::virtio::block::disk::{Disk, RawFile};
use crate::config::DiskConfig;

/// One disk.
#[derive(Debug)]
pub struct OpenDisk {
    pub(super) disk: Box<dyn Disk>,
    pub(super) read_only: bool,
}

impl OpenDisk {
    /// Opens what is configured.
    ///
    /// # Errors
    /// [`BuildError::Disk`], [`BuildError::Composed`].
    pub fn open(disk: &DiskConfig) -> Result<Self, BuildError> {
        let read_only = disk.is_read_only();
        let disk: Box<dyn Disk> = match disk {
            DiskConfig::Raw { path, read_only } => Box::new(RawFile::open(path, *read_only)?),
            DiskConfig::Composed { composition, layers } => Box::new(Composed::open(composition, layers)?),
        };
        Ok(Self { disk, read_only })
    }

    /// An image that was opened, for writing unless it is read-only.
    ///
    /// # Errors
    /// When it is no image, or another machine writes to it.
    pub fn raw(file: File, read_only: bool) -> Result<Self, FileProblem> {
        Ok(Self { disk: Box::new(RawFile::from_file(file, read_only)?), read_only })
    }

    /// A composition that was opened, whose layers' files are had from `files`.
    ///
    /// # Errors
    /// When it is no composition.
    pub fn composed(file: File, files: Box<dyn Files>) -> Result<Self, CompositionError> {
        Ok(Self { disk: Box::new(Composed::new(file, files)?), read_only: true })
    }
}
