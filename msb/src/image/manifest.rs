//! Manifests, indexes of them, and configurations: OCI image-spec, manifest.md, image-index.md and config.md, and Docker's own
//! before those ("Image Manifest Version 2, Schema 2"), which have the same members.
//!
//! In: documents of the store. Out: what an image is made of, or why it can't be run. It must never know where they came from.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::ImageError;
use super::store::{self, Store};

/// As many layers as one mount can name: their paths have one page.
const LAYERS: usize = 127;

/// `application/vnd.oci.image.manifest.v1+json`
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.config.v1+json`
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar`
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// Of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestIndex {
    pub(super) schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    pub(super) manifests: Vec<Descriptor>,
}

/// Of any content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// For which machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

/// All that an image is.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfiguration,
    pub(super) diff_ids: Vec<Digest>,
}

impl Whole {
    /// The image whose manifest is `digest`.
    pub(super) fn read(store: &Store, digest: &Digest) -> Result<Self, ImageError> {
        let manifest = manifest(&store.document(digest, "The image's manifest", store::MANIFEST)?, digest)?;
        let id = manifest.config.digest;
        let config = store.document(&id, "The image's configuration", store::CONFIG)?;
        Self::of(*digest, manifest, &config)
    }

    pub(super) fn of(digest: Digest, manifest: Manifest, config: &[u8]) -> Result<Self, ImageError> {
        let id = manifest.config.digest;
        let bad = |source| ImageError::Document { digest: id, what: "configuration of an image", source };
        let config: ImageConfiguration = serde_json::from_slice(config).map_err(|error| bad(Some(error)))?;
        let parsed = config.rootfs().diff_ids().iter().map(|text| text.parse().map_err(|_| bad(None)));
        let diff_ids: Vec<Digest> = parsed.collect::<Result<_, _>>()?;
        let unusable = |what| ImageError::Unusable { digest, what };
        if diff_ids.len() != manifest.layers.len() {
            return Err(unusable("its configuration has not as many layers as its manifest"));
        }
        if diff_ids.is_empty() || diff_ids.len() > LAYERS {
            return Err(unusable("it has no layers, or more than 127"));
        }
        let found = format!("{}/{}", config.os(), config.architecture());
        let wanted = format!("linux/{}", architecture());
        if found != wanted {
            return Err(ImageError::Platform { found, wanted });
        }
        Ok(Self { digest, manifest, config, diff_ids })
    }

    pub(super) fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
    }
}

/// Reads a manifest whose content is checked.
pub(super) fn manifest(text: &[u8], digest: &Digest) -> Result<Manifest, ImageError> {
    let bad = |source| ImageError::Document { digest: *digest, what: "manifest of an image", source };
    let manifest: Manifest = serde_json::from_slice(text).map_err(|error| bad(Some(error)))?;
    if manifest.schema_version != 2 {
        return Err(bad(None));
    }
    for layer in &manifest.layers {
        let kind = &layer.media_type;
        let what = if kind.ends_with("+encrypted") {
            "its layers are encrypted"
        } else if !kind.contains(".tar") {
            "it is of something else than files (an artifact, not an image)"
        } else if kind.contains(".foreign.") {
            "a layer is not given away by its registry"
        } else {
            continue;
        };
        return Err(ImageError::Unusable { digest: *digest, what });
    }
    Ok(manifest)
}

/// Reads an index whose content is checked.
pub(super) fn index(text: &[u8], digest: &Digest) -> Result<ManifestIndex, ImageError> {
    let bad = |source| ImageError::Document { digest: *digest, what: "index of images", source };
    serde_json::from_slice(text).map_err(|error| bad(Some(error)))
}

/// Whether a document is an index: by its own word, or by what it has.
pub(super) fn is_index(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Has {
        manifests: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice(text).is_ok_and(|has: Has| has.manifests.is_some())
}

impl ManifestIndex {
    /// Those that this machine can run; what says nothing may be for it.
    pub(super) fn ours(&self) -> Vec<&Descriptor> {
        let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
        self.manifests.iter().filter(|entry| entry.platform.as_ref().is_none_or(fits)).collect()
    }

    /// The platforms there are, for an error.
    pub(super) fn platforms(&self) -> String {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        let mut all: Vec<_> = known
            .filter(|known| known.os != "unknown")
            .map(|known| format!("{}/{}", known.os, known.architecture))
            .collect();
        all.sort_unstable();
        all.dedup();
        all.join(", ")
    }
}

/// This machine's, as GOARCH has it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image for other machines only.
pub(super) fn other_platform(found: String) -> ImageError {
    ImageError::Platform { found, wanted: format!("linux/{}", architecture()) }
}
