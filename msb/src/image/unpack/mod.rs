//! A layer's archive becomes a directory that overlayfs and our composed disk take for a lower layer.
//!
//! ```text
//!  bytes ─▶ decompressed, hashed ─▶ archive: entries ─▶ path: places ─▶ tree: what an entry does
//!                                                                        └─▶ view: this layer over those below
//! ```
//!
//! In: an archive that nobody vouches for, the layers below it. Out: a directory, when all of it was read and has the digest
//! that the image's configuration says. What a name means is decided over the layers below, as when Docker applies one layer
//! after the other, but nothing is mounted and nothing of theirs is changed. It must never know where archives come from.

pub(super) mod archive;
mod attributes;
mod error;
mod limits;
mod path;
mod pax;
#[cfg(test)]
mod tests;
mod tree;
mod view;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use error::UnpackError;
pub use limits::Limits;

use super::decompress::decompressed;
use super::digest::{Digest, Hashing, TooLong};
use archive::Archive;
use tree::Tree;

/// Unpacks `layer` into the empty directory `into`, over `below`, the lowest first. On an error what is in `into` is worth
/// nothing. All of it is on the disk when this returns.
///
/// # Errors
/// [`UnpackError`].
pub(super) fn unpack(
    layer: impl Read,
    diff_id: Digest,
    into: &Path,
    below: &[PathBuf],
    limits: Limits,
) -> Result<(), UnpackError> {
    let plain = decompressed(layer).map_err(UnpackError::Read)?;
    let mut archive = Archive::new(Hashing::new(plain, limits.bytes), limits.entries);
    let result = apply(&mut archive, into, below, limits).and_then(|()| archive.finish());
    let (found, _) = result.map_err(too_long)?.finish();
    if found != diff_id {
        return Err(UnpackError::DiffId { found, wanted: diff_id });
    }
    let directory = File::open(into).map_err(error::host("open the layer", into))?;
    rustix::fs::syncfs(&directory).map_err(error::host("bring to the disk", into))
}

fn apply<R: Read>(
    archive: &mut Archive<R>,
    into: &Path,
    below: &[PathBuf],
    limits: Limits,
) -> Result<(), UnpackError> {
    let mut tree = Tree::new(into, below)?;
    while let Some(entry) = archive.next()? {
        if entry.size > limits.bytes {
            return Err(UnpackError::Limit { what: "bytes", limit: limits.bytes });
        }
        tree.add(&entry, &mut |buffer| archive.data(buffer))?;
    }
    tree.finish()
}

/// A limit that was met while reading is not the reader's fault.
fn too_long(error: UnpackError) -> UnpackError {
    if let UnpackError::Read(source) = &error
        && let Some(TooLong { limit }) = source.get_ref().and_then(find)
    {
        return UnpackError::Limit { what: "bytes", limit: *limit };
    }
    error
}

fn find<'a>(error: &'a (dyn std::error::Error + Send + Sync + 'static)) -> Option<&'a TooLong> {
    error.downcast_ref::<TooLong>().or_else(|| error.downcast_ref::<io::Error>()?.get_ref().and_then(find))
}
