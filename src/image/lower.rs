//! What a root is made of, as disks: which layers, from the cache or composed anew.
//!
//! ```text
//!  overlay: the image's layers ── cached ──▶ one composition        what is the container's own ──▶ another, if there is any
//!  an image that is mounted    ── as it is ──▶ its own device       anything else ──▶ a composition of the directory
//! ```

use std::path::Path;

use rootfs_builder::{
    cache::{Cache, CacheError},
    composed::{Composed, Kind, compose},
    layers::{self, Overlay, Source},
    output::Durability,
};

use super::ImageError;
use crate::config::{DiskConfig, FileSystem};

/// Beside the directories of disks: compositions of images.
const CACHE: &str = "compositions";
/// In the directory of disks: what is the container's own.
const TOP: &str = "top";
/// In the directory of disks: a root that is one directory.
const ROOT: &str = "root";

type Layers = Vec<(DiskConfig, FileSystem)>;

/// The layers of `root`, the uppermost first; what has to be made for this container is made in `dir`.
pub(super) fn layers(dir: &Path, root: &Path) -> Result<Layers, ImageError> {
    match layers::of(root)? {
        Source::Overlay(overlay) => {
            match overlaid(dir, &overlay) {
                // Only the kernel can merge them: what it shows is taken then.
                Err(error) if error.wants_plain() => {}
                Err(source) => {
                    return Err(ImageError::Chain { root: root.to_owned(), source: Box::new(source) });
                }
                Ok(layers) => return Ok(layers),
            }
        }
        Source::Image { device, filesystem } => {
            if let Some(filesystem) = FileSystem::named(&filesystem) {
                return Ok(vec![(DiskConfig::Raw { path: device, read_only: true }, filesystem)]);
            }
        }
        Source::Plain { .. } => {}
    }
    let failed = |source| ImageError::Compose { root: root.to_owned(), source: Box::new(source) };
    let composed = compose(&[root.to_owned()], Kind::Plain, &dir.join(ROOT), Durability::Throwaway);
    Ok(composed.map_err(failed)?.map(disk).into_iter().collect())
}

/// The image's layers and the container's own, each as one.
fn overlaid(dir: &Path, overlay: &Overlay) -> Result<Layers, CacheError> {
    let kept = dir.parent().unwrap_or(dir).join(CACHE);
    let chain = Cache::open(&kept)?.chain(&overlay.chain, overlay.marks)?;
    let top = compose(&overlay.top, Kind::Top(overlay.marks), &dir.join(TOP), Durability::Throwaway)?;
    Ok(top.into_iter().chain([chain]).map(disk).collect())
}

fn disk(composed: Composed) -> (DiskConfig, FileSystem) {
    let Composed { path, layers, .. } = composed;
    (DiskConfig::Composed { composition: path, layers }, FileSystem::Erofs)
}
