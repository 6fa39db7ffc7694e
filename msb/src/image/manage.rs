//! What is in the store: shown, given away, taken away.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::image::ImageConfiguration;
use serde::Serialize;

use super::digest::{Digest, chain};
use super::error::{ImageError, store as failed};
use super::index::Index;
use super::layers;
use super::manifest::Whole;
use super::store::{self, Store};

/// An image of the store, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its whole name; its manifest's digest if it has none.
    pub reference: String,
    /// Of its configuration.
    pub id: Digest,
    /// Of its manifest.
    pub digest: Digest,
    /// What its registry calls it.
    pub upstream: Option<Digest>,
    /// When it was made, as its maker says it (RFC 3339).
    pub created: Option<String>,
    /// Bytes of its layers as they are stored: most are compressed.
    pub size: u64,
}

/// All of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    /// As in a list.
    #[serde(flatten)]
    pub summary: Summary,
    /// All of its names.
    pub names: Vec<String>,
    /// What it is run with.
    pub config: ImageConfiguration,
    /// Its layers' digests, as they are stored, the lowest first.
    pub layers: Vec<Digest>,
}

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Manifests, configurations and layers as they came.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// On the disk.
    pub bytes: u64,
}

/// All images, by name.
pub(super) fn list(store: &Store) -> Result<Vec<Summary>, ImageError> {
    let index = Index::read(store)?;
    Ok(index
        .images
        .into_iter()
        .map(|(reference, entry)| {
            // One that is broken is listed too: it can be removed then.
            let created =
                Whole::read(store, &entry.manifest).ok().and_then(|whole| whole.config.created().clone());
            Summary {
                reference,
                id: entry.config,
                digest: entry.manifest,
                upstream: entry.upstream,
                created,
                size: entry.size,
            }
        })
        .collect())
}

/// One image.
pub(super) fn inspect(store: &Store, given: &str) -> Result<Option<Details>, ImageError> {
    let index = Index::read(store)?;
    let Some((reference, entry)) = index.find(given)? else { return Ok(None) };
    let whole = Whole::read(store, &entry.manifest)?;
    let same = index.images.iter().filter(|(_, other)| other.manifest == entry.manifest);
    Ok(Some(Details {
        names: same.map(|(name, _)| name.clone()).collect(),
        summary: Summary {
            reference: reference.clone(),
            id: entry.config,
            digest: entry.manifest,
            upstream: entry.upstream,
            created: whole.config.created().clone(),
            size: entry.size,
        },
        layers: whole.manifest.layers.iter().map(|layer| layer.digest).collect(),
        config: whole.config,
    }))
}

/// Takes a name away; given an ID, all names of that image. What they stood for stays until it is pruned.
pub(super) fn remove(store: &Store, given: &str) -> Result<Vec<String>, ImageError> {
    Index::change(store, |index| {
        let Some((name, entry)) = index.find(given)? else { return Ok(Vec::new()) };
        let named = given == name || super::reference::parse(given).is_ok_and(|whole| &whole.whole() == name);
        let names: Vec<String> = if named {
            vec![name.clone()]
        } else {
            let same = index.images.iter().filter(|(_, other)| other.config == entry.config);
            same.map(|(name, _)| name.clone()).collect()
        };
        for name in &names {
            index.images.remove(name);
        }
        Ok(names)
    })?
}

/// Takes away what no name stands for, but not the images with the manifests `in_use`, and what was interrupted.
pub(super) fn prune(store: &Store, in_use: &[Digest]) -> Result<Freed, ImageError> {
    let _alone = store.exclusive()?;
    let index = Index::read(store)?;
    let (mut blobs, mut unpacked) = (HashSet::new(), HashSet::new());
    for manifest in index.images.values().map(|entry| &entry.manifest).chain(in_use) {
        blobs.insert(manifest.hex());
        // Of one that can't be read nothing can be used.
        let Ok(whole) = Whole::read(store, manifest) else { continue };
        blobs.insert(whole.manifest.config.digest.hex());
        blobs.extend(whole.manifest.layers.iter().map(|layer| layer.digest.hex()));
        unpacked.extend(chain(&whole.diff_ids).iter().map(layers::name));
    }
    let mut freed = Freed::default();
    let (count, bytes) = sweep(&store.blobs(), &blobs)?;
    (freed.blobs, freed.bytes) = (count, bytes);
    let (count, bytes) = sweep(&store.layers(), &unpacked)?;
    (freed.layers, freed.bytes) = (count, freed.bytes + bytes);
    freed.bytes += sweep(&store.temporary(), &HashSet::new())?.1;
    Ok(freed)
}

/// Removes all but `keep`; how many, and how much that was.
fn sweep(directory: &Path, keep: &HashSet<String>) -> Result<(u64, u64), ImageError> {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let entry = entry.map_err(failed("read", directory))?;
        if entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
            continue;
        }
        let path = entry.path();
        bytes += used(&path).map_err(failed("look at", &*path))?;
        count += 1;
        if path.is_dir() {
            store::remove(&path)?;
        } else {
            fs::remove_file(&path).map_err(failed("remove", path))?;
        }
    }
    Ok((count, bytes))
}

/// Bytes on the disk, of a file or of a directory with all in it.
fn used(path: &Path) -> io::Result<u64> {
    let metadata = path.symlink_metadata()?;
    // st_blocks counts 512 bytes each, whatever the file system has (stat(2)). Of several names one counts.
    let mut bytes = metadata.blocks() * 512 / if metadata.is_dir() { 1 } else { metadata.nlink().max(1) };
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += used(&entry?.path())?;
        }
    }
    Ok(bytes)
}
