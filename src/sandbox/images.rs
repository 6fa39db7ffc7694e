//! Images and block devices of the host that a container mounts by the type of their file system: disks of its machine.
//!
//! Each is found once and opened by its descriptor. The host's kernel never mounts it: what a hostile file system does,
//! it does to the guest. One that is written to belongs to this machine alone for that time (`machine/virtio/block`).

use msb_agent::protocol::{Mount, MountSource};

use crate::{
    config::{DiskConfig, ImageMount, PlacedImage, guest_disk},
    host::volumes::source::{Source, SourceError},
};

/// Why an image can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// More disks than the guest has names for.
    #[error("The mount {destination} would be one disk too many: a machine has 26, its root's among them")]
    Full {
        /// `mounts[].destination`
        destination: String,
    },
}

/// The images of a container, ready for its machine.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// After the root's, in this order.
    pub disks: Vec<DiskConfig>,
    /// Each with its place among all mounts.
    pub mounts: Vec<(usize, Mount)>,
    /// What `disks` name by descriptor: held until the machine has opened them.
    held: Vec<Source>,
}

impl Images {
    /// Finds all of them, for a machine that has `first` disks already.
    pub(super) fn open(images: &[PlacedImage], first: usize) -> Result<Self, ImagesError> {
        let mut opened = Self::default();
        for (at, placed) in images.iter().enumerate() {
            let image = &placed.image;
            let device = guest_disk(first + at)
                .ok_or_else(|| ImagesError::Full { destination: image.destination.clone() })?;
            let source = Source::open_image(&image.source)?;
            opened.disks.push(DiskConfig::Raw { path: source.by_descriptor(), read_only: image.read_only });
            opened.mounts.push(mount(placed, device));
            opened.held.push(source);
        }
        Ok(opened)
    }
}

/// The mount of an image with its index, which is `device` in the guest.
pub(super) fn mount(placed: &PlacedImage, device: String) -> (usize, Mount) {
    let ImageMount { destination, filesystem, options, read_only, .. } = placed.image.clone();
    (
        placed.index,
        Mount { destination, source: MountSource::Disk { device, filesystem, read_only }, options },
    )
}
