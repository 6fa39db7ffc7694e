//! What can go wrong with images.

use std::io;
use std::path::PathBuf;

use super::digest::Digest;
use super::pull::PullError;
use super::unpack::UnpackError;

/// An image that can't be had, kept or given away.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A text that is no image's name.
    #[error(
        "{given:?} is no image: give [REGISTRY/]NAME[:TAG] or [REGISTRY/]NAME@sha256:DIGEST, in lower case"
    )]
    Reference {
        /// The text.
        given: String,
    },
    /// It is not in the store.
    #[error("The image {reference} is not here: get it with `msb pull` or `msb load`{}", here(known))]
    NotHere {
        /// Which one.
        reference: String,
        /// Images of other names that are here.
        known: Vec<String>,
    },
    /// A digit string that several images begin with.
    #[error("Several images begin with {given:?}: give more of it")]
    Ambiguous {
        /// The digits.
        given: String,
    },
    /// The store can't be used.
    #[error("Cannot {what} {}", path.display())]
    Store {
        /// What was tried.
        what: &'static str,
        /// Which file of it.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The store's index is of a newer version, or broken.
    #[error("The index of images {} can't be read: remove it, and pull or load the images again", path.display())]
    Index {
        /// Its file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A part is not in the store.
    #[error("{digest} is missing in the store of images: pull or load the image again")]
    Missing {
        /// Which part.
        digest: Digest,
    },
    /// Content is not what its digest says.
    #[error("Content that should have the digest {wanted} has {found}: get the image again")]
    Digest {
        /// The one that was named.
        wanted: Digest,
        /// The one of what is there.
        found: Digest,
    },
    /// More than it may be.
    #[error("{what} has more than {limit} bytes, which is taken for an attack")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// A manifest, an index or a configuration that makes no sense.
    #[error("{digest} is no {what}{}", because(source.as_ref()))]
    Document {
        /// Which one.
        digest: Digest,
        /// What it should be.
        what: &'static str,
        /// The cause, if there is one.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// An image of files it is not.
    #[error("The image {digest} can't be run: {what}")]
    Unusable {
        /// Its manifest.
        digest: Digest,
        /// Why.
        what: &'static str,
    },
    /// It is for other machines.
    #[error("The image is for {found}, not for {wanted}")]
    Platform {
        /// The ones it is for.
        found: String,
        /// This machine's.
        wanted: String,
    },
    /// A layer can't be unpacked.
    #[error("The layer {layer} can't be unpacked")]
    Layer {
        /// Its digest.
        layer: Digest,
        /// The cause.
        #[source]
        source: UnpackError,
    },
    /// No archive of images.
    #[error("This is no archive of images: {what}")]
    Archive {
        /// What is wrong.
        what: String,
    },
    /// No registry gave it.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// No registry gave it, but there is one from before.
    #[error(
        "The image {reference} can't be asked for; one that was pulled before is here: use it with `--pull never`"
    )]
    Older {
        /// Its name.
        reference: String,
        /// The cause.
        #[source]
        source: PullError,
    },
    /// What is given can't be read: cut off, too long, or no archive.
    #[error("What is to be loaded can't be read")]
    Read(#[source] io::Error),
    /// The archive can't be written.
    #[error("The archive can't be written")]
    Written(#[source] io::Error),
    /// The archive can't be read.
    #[error("The archive can't be read")]
    ArchiveRead(#[source] UnpackError),
}

fn here(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!("; here are {}", known.join(", ")) }
}

fn because(source: Option<&serde_json::Error>) -> &'static str {
    if source.is_some() { "" } else { ", or one that is not understood" }
}

/// For `map_err`.
pub(super) fn store<E: Into<io::Error>>(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> ImageError {
    let path = path.into();
    move |source| ImageError::Store { what, path, source: source.into() }
}
