//! Unpacked layers: each made once, whatever images have it, as long as they have the same below it.
//!
//! A directory's name is the beginning of the layer's ChainID, 16 bytes of it as 26 letters: mount(2) has one page for the
//! paths of all layers, and 127 of them are to fit.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use data_encoding::BASE32_NOPAD;

use super::digest::{Digest, chain};
use super::error::{ImageError, store};
use super::manifest::Whole;
use super::progress::{Event, Progress, Stage};
use super::store::{self, Store};
use super::unpack::{Limits, unpack};

/// Bytes of a ChainID that are in the name.
const NAMED: usize = 16;
/// How often progress is told: bytes.
const STEP: u64 = 1 << 20;

/// Where the layer with this ChainID is, unpacked or not.
pub(super) fn name(chain_id: &Digest) -> String {
    BASE32_NOPAD.encode(&chain_id.bytes()[..NAMED]).to_lowercase()
}

/// The directories of an image's layers, the lowest first, made if they are not there.
pub(super) fn ensure(
    store: &Store,
    image: &Whole,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>, ImageError> {
    let mut layers: Vec<PathBuf> = Vec::new();
    let chain = chain(&image.diff_ids);
    for ((chain_id, diff_id), layer) in chain.iter().zip(&image.diff_ids).zip(&image.manifest.layers) {
        let path = store.layers().join(name(chain_id));
        if !path.is_dir() {
            make(store, &layer.digest, diff_id, &path, &layers, limits, progress)?;
        }
        layers.push(path);
    }
    Ok(layers)
}

fn make(
    store: &Store,
    blob: &Digest,
    diff_id: &Digest,
    path: &PathBuf,
    below: &[PathBuf],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let _alone = store.making(&name)?;
    // Somebody else made it meanwhile.
    if path.is_dir() {
        return Ok(());
    }
    let temporary = store.temporary().join(&name);
    // Of one that was interrupted.
    store::remove(&temporary)?;
    DirBuilder::new().mode(0o755).create(&temporary).map_err(error_of(&temporary))?;
    let (file, total) = store.read(blob)?;
    let tell = |stage, done| progress.event(Event::Layer { digest: blob, stage, done, total });
    tell(Stage::Unpacking, 0);
    let counted = Counted { inner: file, done: 0, told: 0, tell: |done| tell(Stage::Unpacking, done) };
    if let Err(source) = unpack(counted, *diff_id, &temporary, below, limits) {
        store::remove(&temporary)?;
        return Err(ImageError::Layer { layer: *blob, source });
    }
    fs::rename(&temporary, path).map_err(error_of(path))?;
    store::sync_directory(&store.layers())?;
    tell(Stage::Unpacked, total);
    Ok(())
}

fn error_of(path: &PathBuf) -> impl FnOnce(io::Error) -> ImageError {
    store("make", path)
}

/// Tells how much was read.
struct Counted<R, F> {
    inner: R,
    done: u64,
    told: u64,
    tell: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        if self.done - self.told >= STEP {
            self.told = self.done;
            (self.tell)(self.done);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let name = name(&Digest::of(b"layer"));
        assert_eq!(name.len(), 26);
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        // `lowerdir=` and 127 names with a colon each.
        assert!("lowerdir=".len() + 127 * (name.len() + 1) < 4096);
    }
}
