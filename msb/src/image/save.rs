//! Images as one archive: an OCI layout (image-layout.md) that `docker load` of any version takes as well.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};

use serde_json::json;
use tar::{Builder, Header};

use super::digest::Digest;
use super::error::{ImageError, store as failed};
use super::index::Index;
use super::manifest::{Descriptor, ManifestIndex, OCI_MANIFEST, Platform, Whole, architecture};
use super::store::Store;

/// Writes the images that `index` knows as `wanted`; each with the names that were given.
pub(super) fn save(
    store: &Store,
    index: &Index,
    wanted: &[(String, Digest)],
    to: &mut dyn Write,
) -> Result<(), ImageError> {
    let mut archive = Archive { builder: Builder::new(to), written: HashSet::new() };
    let (mut descriptors, mut docker) = (Vec::new(), Vec::new());
    for (name, digest) in wanted {
        let whole = Whole::read(store, digest)?;
        let manifest = &whole.manifest;
        for part in manifest.layers.iter().map(|layer| &layer.digest).chain([&manifest.config.digest, digest])
        {
            archive.blob(store, part)?;
        }
        let named = index.images.contains_key(name) && !name.starts_with("sha256:");
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        docker.push(json!({
            "Config": path(&manifest.config.digest),
            "RepoTags": if named && !name.contains('@') { json!([name]) } else { json!(null) },
            "Layers": manifest.layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
        }));
        let mut annotations = BTreeMap::new();
        if named {
            annotations.insert("io.containerd.image.name".to_owned(), name.clone());
            annotations.insert("org.opencontainers.image.ref.name".to_owned(), name.clone());
        }
        descriptors.push(Descriptor {
            media_type: manifest.media_type.clone().unwrap_or_else(|| OCI_MANIFEST.into()),
            digest: *digest,
            size: store.read(digest)?.1,
            platform: Some(Platform {
                architecture: architecture().into(),
                os: "linux".into(),
                variant: None,
            }),
            annotations: Some(annotations),
        });
    }
    let layout = ManifestIndex {
        schema_version: 2,
        media_type: Some("application/vnd.oci.image.index.v1+json".into()),
        manifests: descriptors,
    };
    let text = |value: serde_json::Result<Vec<u8>>| value.map_err(|error| ImageError::Written(error.into()));
    archive.small("index.json", &text(serde_json::to_vec(&layout))?)?;
    archive.small("manifest.json", &text(serde_json::to_vec(&docker))?)?;
    archive.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.builder.into_inner().and_then(|to| to.flush()).map_err(ImageError::Written)
}

struct Archive<'a> {
    builder: Builder<&'a mut dyn Write>,
    written: HashSet<Digest>,
}

impl Archive<'_> {
    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<(), ImageError> {
        if !self.written.insert(*digest) {
            return Ok(());
        }
        let (file, size) = store.read(digest)?;
        let mut file = Checked(file, None);
        self.file(&format!("blobs/sha256/{}", digest.hex()), size, &mut file).map_err(|error| {
            match file.1.take() {
                Some(source) => failed("read", store.blob(digest))(source),
                None => ImageError::Written(error),
            }
        })
    }

    fn small(&mut self, name: &str, text: &[u8]) -> Result<(), ImageError> {
        self.file(name, text.len() as u64, text).map_err(ImageError::Written)
    }

    fn file(&mut self, name: &str, size: u64, data: impl Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.builder.append_data(&mut header, name, data)
    }
}

/// Remembers that it was the reading that failed.
struct Checked(std::fs::File, Option<io::Error>);

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).inspect_err(|error| {
            self.1 = Some(
                error
                    .raw_os_error()
                    .map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error),
            );
        })
    }
}
