//! Images: what a sandbox's root is made of.
//!
//! ```text
//!  load (archives, directories) ─┐
//!  pull (registries)            ─┴─▶ store: blobs by digest ─▶ unpack ─▶ layers ─▶ Image
//!                                    index: which name is which
//! ```
//!
//! In: names, archives, answers of registries; nobody vouches for any of them. Out: an [`Image`], whose layers are directories
//! that nobody changes. All content is what its digest says before it counts. It must never know what a sandbox is.

mod decompress;
mod digest;
mod error;
mod import;
mod index;
mod layers;
mod load;
mod manage;
mod manifest;
mod ordinary;
mod program;
mod progress;
mod pull;
mod reference;
mod save;
mod shipped;
mod store;
#[cfg(test)]
mod tests;
mod unpack;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub use digest::{BadDigest, Digest};
pub use error::ImageError;
pub use manage::{Details, Freed, Summary};
pub use oci_spec::image::ImageConfiguration;
pub use ordinary::ordinary;
pub use progress::{Event, Progress, Stage};
pub use pull::{Credentials, Proxies, PullError, Registries};
pub use store::Lock;
pub use unpack::{Limits, UnpackError};

use crate::home::Home;
use crate::sandbox::Pull;
use index::{Entry, Index};
use load::Members;
use manifest::Whole;
use store::Store;

/// All images of a home.
#[derive(Debug, Clone)]
pub struct Images {
    store: Store,
    limits: Limits,
}

/// One that can be run.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its whole name, such as `docker.io/library/busybox:latest`.
    pub reference: String,
    /// Of its manifest for this machine.
    pub digest: Digest,
    /// Of its configuration: what Docker calls its ID.
    pub id: Digest,
    /// What it is run with.
    pub config: ImageConfiguration,
    /// Directories as overlayfs has its lower layers, the lowest first. All are in one directory, and their names are short.
    pub layers: Vec<PathBuf>,
}

impl Images {
    /// Those of `home`.
    ///
    /// # Errors
    /// [`ImageError::Store`].
    pub fn open(home: &Home) -> Result<Self, ImageError> {
        Ok(Self { store: Store::open(home.images())?, limits: Limits::default() })
    }

    /// The same, with other limits on what a layer may hold.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Keeps all images from being removed as long as it lives: to be held from before an image is asked for until it is
    /// noted somewhere that it is in use.
    ///
    /// # Errors
    /// [`ImageError::Store`].
    pub fn hold(&self) -> Result<Lock, ImageError> {
        self.store.shared()
    }

    /// An image, ready to be run: asked for at its registry when `pull` says so.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn get(
        &self,
        reference: &str,
        pull: Pull,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let _hold = self.hold()?;
        let here = match self.local(reference, progress) {
            Err(ImageError::NotHere { .. }) if pull != Pull::Never => None,
            // Blobs were lost: the registry has them.
            Err(ImageError::Missing { .. } | ImageError::Digest { .. }) if pull != Pull::Never => None,
            other => Some(other?),
        };
        if let Some(image) = here {
            if pull != Pull::Always {
                return Ok(image);
            }
            return match self.pull(reference, registries, progress) {
                Err(ImageError::Pull(source @ PullError::Unreachable { .. })) => {
                    Err(ImageError::Older { reference: image.reference, source })
                }
                other => other,
            };
        }
        self.pull(reference, registries, progress)
    }

    /// An image as its registry has it now, brought here and not unpacked: that is done when it is used first, and can't be
    /// done everywhere, such as while an image of Docker's is built.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn bring(
        &self,
        reference: &str,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let _hold = self.hold()?;
        let reference = reference::parse(reference)?;
        let entry = pull::pull(&self.store, &reference, registries, progress)?;
        Index::change(&self.store, |index| index.images.insert(reference.whole(), entry))?;
        Ok(())
    }

    /// Takes over the images of `shipped`, another home that is only read, unless that was done before.
    ///
    /// # Errors
    /// [`ImageError`]; those that were not taken over are the next time.
    pub fn take_over(&self, shipped: &Path) -> Result<(), ImageError> {
        let _hold = self.hold()?;
        shipped::take_over(&self.store, &Store::read_only(shipped.join("images")))
    }

    /// An image as its registry has it now.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn pull(
        &self,
        reference: &str,
        registries: &Registries,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let _hold = self.hold()?;
        let reference = reference::parse(reference)?;
        let entry = pull::pull(&self.store, &reference, registries, progress)?;
        // First of all unpacked: what can't be is no image.
        let image = self.image(&reference.whole(), &entry, progress)?;
        Index::change(&self.store, |index| index.images.insert(reference.whole(), entry))?;
        Ok(image)
    }

    /// Writes images to an archive that `docker load` takes: an OCI layout with a `manifest.json`.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn save(&self, references: &[&str], to: &mut dyn Write) -> Result<(), ImageError> {
        let _hold = self.hold()?;
        let index = Index::read(&self.store)?;
        let find = |given: &&str| match index.find(given)? {
            Some((name, entry)) => Ok((name.clone(), entry.manifest)),
            None => Err(self.not_here(given, &index)),
        };
        let wanted = references.iter().map(find).collect::<Result<Vec<_>, ImageError>>()?;
        save::save(&self.store, &index, &wanted, to)
    }

    /// All that are here, by name.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn list(&self) -> Result<Vec<Summary>, ImageError> {
        manage::list(&self.store)
    }

    /// All of one that is here.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn inspect(&self, reference: &str) -> Result<Details, ImageError> {
        match manage::inspect(&self.store, reference)? {
            Some(details) => Ok(details),
            None => Err(self.not_here(reference, &Index::read(&self.store)?)),
        }
    }

    /// Gives an image that is here one more name, and takes that from another one that has it. Returns the name as a whole.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn tag(&self, reference: &str, name: &str) -> Result<String, ImageError> {
        let name = reference::parse(name)?;
        if name.digest().is_some() {
            return Err(ImageError::Reference { given: name.whole() });
        }
        let index = Index::read(&self.store)?;
        let Some((_, entry)) = index.find(reference)? else { return Err(self.not_here(reference, &index)) };
        Index::change(&self.store, |index| index.images.insert(name.whole(), entry.clone()))?;
        Ok(name.whole())
    }

    /// Takes a name away, or all names of an image that is given by its ID: those. Its content goes when it is pruned.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn remove(&self, reference: &str) -> Result<Vec<String>, ImageError> {
        let removed = manage::remove(&self.store, reference)?;
        if removed.is_empty() {
            return Err(self.not_here(reference, &Index::read(&self.store)?));
        }
        Ok(removed)
    }

    /// Takes away all content that no name stands for, but not the images with the manifests `in_use`. Waits for those who hold
    /// images: not to be called by one of them.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn prune(&self, in_use: &[Digest]) -> Result<Freed, ImageError> {
        manage::prune(&self.store, in_use)
    }

    /// An image that is here: by its name, its ID or the beginning of that. No registry is asked.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn local(&self, reference: &str, progress: &dyn Progress) -> Result<Image, ImageError> {
        let _hold = self.hold()?;
        let index = Index::read(&self.store)?;
        match index.find(reference)? {
            Some((name, entry)) => self.image(name, entry, progress),
            None => Err(self.not_here(reference, &index)),
        }
    }

    /// Loads the images of a file (`docker save`, OCI archives, compressed or not) or of an OCI layout's directory. Their names;
    /// the manifest's digest for one that has none.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn load(&self, from: &Path, progress: &dyn Progress) -> Result<Vec<String>, ImageError> {
        if from.is_dir() {
            let _hold = self.hold()?;
            let members = Members::Directory { path: from.to_owned(), store: &self.store };
            return load::load(&self.store, members, self.limits, progress);
        }
        self.load_archive(File::open(from).map_err(error::store("open", from))?, progress)
    }

    /// As [`Self::load`], of an archive that comes from anywhere.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn load_archive(&self, from: impl Read, progress: &dyn Progress) -> Result<Vec<String>, ImageError> {
        let _hold = self.hold()?;
        let members = Members::of_archive(from, &self.store, progress)?;
        load::load(&self.store, members, self.limits, progress)
    }

    /// Makes an image of a root file system in an archive, compressed or not, and calls it `name`. Returns its whole name.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn import(&self, from: impl Read, name: &str) -> Result<String, ImageError> {
        let _hold = self.hold()?;
        import::import(&self.store, from, name)
    }

    fn image(&self, name: &str, entry: &Entry, progress: &dyn Progress) -> Result<Image, ImageError> {
        let whole = Whole::read(&self.store, &entry.manifest)?;
        let layers = layers::ensure(&self.store, &whole, self.limits, progress)?;
        Ok(Image {
            reference: name.to_owned(),
            digest: whole.digest,
            id: whole.manifest.config.digest,
            config: whole.config,
            layers,
        })
    }

    fn not_here(&self, reference: &str, index: &Index) -> ImageError {
        let reference =
            reference::parse(reference).map_or_else(|_| reference.to_owned(), |whole| whole.whole());
        ImageError::NotHere { reference, known: index.images.keys().take(10).cloned().collect() }
    }
}
