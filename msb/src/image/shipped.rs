//! Images that come with the program, in a directory that is only read: the product's own image has some.
//!
//! They are taken over once: whoever asks a registry for a newer one keeps that one, and what is removed stays away, until the
//! program comes with another image of the same name.

use std::fs;
use std::io;

use super::error::{ImageError, store as failed};
use super::index::{Entry, Index};
use super::manifest::Whole;
use super::store::{self, Store};

/// Takes over into `to` what `from` has and did not have the last time.
pub(super) fn take_over(to: &Store, from: &Store) -> Result<(), ImageError> {
    let theirs = Index::read(from)?;
    if taken(to)? == theirs {
        return Ok(());
    }
    let _alone = to.making("shipped")?;
    let before = taken(to)?;
    for (name, entry) in &theirs.images {
        if before.images.get(name) != Some(entry) {
            copy(to, from, entry)?;
            Index::change(to, |index| index.images.insert(name.clone(), entry.clone()))?;
        }
    }
    let path = to.shipped();
    let text = serde_json::to_vec_pretty(&theirs)
        .map_err(|source| ImageError::Index { path: path.clone(), source })?;
    store::replace(&path, &text)
}

/// What was taken over the last time.
fn taken(to: &Store) -> Result<Index, ImageError> {
    let path = to.shipped();
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|source| ImageError::Index { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// All that an image consists of. The manifest comes last: what has one is whole.
fn copy(to: &Store, from: &Store, entry: &Entry) -> Result<(), ImageError> {
    let whole = Whole::read(from, &entry.manifest)?;
    let layers = whole.manifest.layers.iter().map(|layer| layer.digest);
    for digest in layers.chain([whole.manifest.config.digest, entry.manifest]) {
        if to.has(&digest) {
            continue;
        }
        let (file, size) = from.read(&digest)?;
        let loose = to.collect(file, size)?;
        if loose.digest != digest {
            return Err(ImageError::Digest { wanted: digest, found: loose.digest });
        }
        to.keep(loose)?;
    }
    Ok(())
}
