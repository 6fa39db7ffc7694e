//! An image of a root file system in an archive, as `docker import` makes it: one layer, and a shell to run.
//!
//! Nothing is unpacked: this is also done while an image of Docker's is built, where there is no file system that layers can be
//! unpacked on. What is wrong with the archive is told when the image is used first.

use std::io::Read;

use serde_json::json;

use super::decompress::decompressed;
use super::error::ImageError;
use super::index::{Entry, Index};
use super::manifest::{Whole, architecture};
use super::reference;
use super::store::{self, Store};
use super::unpack::UnpackError;

/// Makes it, and calls it `name`; returns its whole name.
pub(super) fn import(store: &Store, from: impl Read, name: &str) -> Result<String, ImageError> {
    let name = reference::parse(name)?.whole();
    let plain = decompressed(from).map_err(UnpackError::Read).map_err(ImageError::ArchiveRead)?;
    let loose = store.collect(plain, store::LAYER)?;
    let size = loose.size;
    let layer = store.keep(loose)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
    })
    .to_string();
    let id = store.put(config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": id.to_string(),
            "size": config.len(),
        },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": size }],
    })
    .to_string();
    let manifest = store.put(manifest.as_bytes())?;
    let whole = Whole::read(store, &manifest)?;
    let entry = Entry { manifest, config: id, upstream: None, size: whole.size() };
    Index::change(store, |index| index.images.insert(name.clone(), entry))?;
    Ok(name)
}
