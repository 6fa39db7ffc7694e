//! Images from an archive or a directory: what `docker save`, `podman save`, buildx and skopeo write.
//!
//! In: a Docker archive (`manifest.json`), an OCI archive or an OCI layout's directory (image-layout.md), compressed or not.
//! Out: the names of what is now in the store, each unpacked once, so that a broken or hostile archive is refused here. What an
//! archive holds besides is not kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::decompress::decompressed;
use super::digest::Digest;
use super::error::{ImageError, store};
use super::index::{Entry, Index};
use super::layers;
use super::manifest::{self, Descriptor, Manifest, Whole};
use super::progress::{Event, Progress};
use super::reference;
use super::store::{self, Loose, Store};
use super::unpack::archive::{Archive, What};
use super::unpack::{Limits, UnpackError};

/// Files in an archive of images.
const MEMBERS: u64 = 100_000;
/// Bytes in an archive of images.
const ARCHIVE: u64 = 1 << 40;
/// Links from one file of an archive to the next: old ones have a layer once, and links to it.
const LINKS: usize = 8;
/// How deep indexes are in indexes.
const NESTED: usize = 4;

/// What has files by their names.
pub(super) enum Members<'a> {
    Archive { files: HashMap<PathBuf, Loose>, links: HashMap<PathBuf, PathBuf>, store: &'a Store },
    Directory { path: PathBuf, store: &'a Store },
}

/// `manifest.json` of Docker's archives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: PathBuf,
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

/// An image that is in the store, and its names.
struct Loaded {
    names: Vec<String>,
    manifest: Digest,
}

/// Loads all images of `members` that this machine can run.
pub(super) fn load(
    store: &Store,
    mut members: Members<'_>,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<String>, ImageError> {
    let docker: Option<Vec<DockerImage>> = members.json("manifest.json")?;
    let loaded = if let Some(text) = members.small(Path::new("index.json"))? {
        members.oci(&text, docker.as_deref().unwrap_or_default())?
    } else if let Some(images) = docker {
        images.iter().map(|image| members.docker(image)).collect::<Result<_, _>>()?
    } else {
        let what = "it has neither a manifest.json, as `docker save` writes it, nor an OCI index.json".into();
        return Err(ImageError::Archive { what });
    };
    let mut entries = Vec::new();
    for Loaded { names, manifest } in loaded {
        let whole = Whole::read(store, &manifest)?;
        layers::ensure(store, &whole, limits, progress)?;
        let entry =
            Entry { manifest, config: whole.manifest.config.digest, upstream: None, size: whole.size() };
        let names = if names.is_empty() { vec![manifest.to_string()] } else { names };
        entries.extend(names.into_iter().map(|name| (name, entry.clone())));
    }
    let names = entries.iter().map(|(name, _)| name.clone()).collect();
    Index::change(store, |index| index.images.extend(entries))?;
    Ok(names)
}

impl<'a> Members<'a> {
    /// Of an archive, compressed or not.
    pub(super) fn of_archive(
        from: impl Read,
        store: &'a Store,
        progress: &dyn Progress,
    ) -> Result<Self, ImageError> {
        let failed = ImageError::ArchiveRead;
        let plain = decompressed(from).map_err(UnpackError::Read).map_err(failed)?;
        let mut archive = Archive::new(plain.take(ARCHIVE), MEMBERS);
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        let mut done = 0;
        while let Some(entry) = archive.next().map_err(failed)? {
            let Some(name) = clean(&entry.shown()) else { continue };
            match entry.what {
                What::Regular => {
                    let loose = store.collect(Data(&mut archive), store::LAYER)?;
                    done += loose.size;
                    progress.event(Event::Reading { done });
                    files.insert(name, loose);
                }
                What::Symlink(target) => {
                    let target = path(&target);
                    let from = name.parent().unwrap_or(Path::new("")).join(target);
                    links.extend(clean(&from).map(|target| (name, target)));
                }
                What::HardLink(target) => links.extend(clean(&path(&target)).map(|target| (name, target))),
                _ => {}
            }
        }
        Ok(Self::Archive { files, links, store })
    }

    /// The file called `name`: taken out.
    fn take(&mut self, name: &Path) -> Result<Option<Loose>, ImageError> {
        match self {
            Self::Archive { files, links, .. } => {
                let mut name = name;
                for _ in 0..LINKS {
                    match links.get(name) {
                        Some(target) => name = target,
                        None => break,
                    }
                }
                Ok(files.remove(name))
            }
            Self::Directory { path, store } => {
                let Some(name) = clean(name) else { return Ok(None) };
                let path = path.join(name);
                match File::open(&path) {
                    Ok(file) => store.collect(file, store::LAYER).map(Some),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(store_error(path, error)),
                }
            }
        }
    }

    fn store(&self) -> &'a Store {
        match self {
            Self::Archive { store, .. } | Self::Directory { store, .. } => store,
        }
    }

    /// All of a small file.
    fn small(&mut self, name: &Path) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(loose) = self.take(name)? else { return Ok(None) };
        let limit = store::CONFIG;
        if loose.size > limit {
            return Err(ImageError::TooLong { what: "A document of the archive", limit });
        }
        std::fs::read(&loose.path).map(Some).map_err(store("read", &*loose.path))
    }

    fn json<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<Option<T>, ImageError> {
        let Some(text) = self.small(Path::new(name))? else { return Ok(None) };
        let bad = |error| ImageError::Archive { what: format!("{name}: {error}") };
        serde_json::from_slice(&text).map(Some).map_err(bad)
    }

    /// Brings a file of the archive into the store; true if it is there now.
    fn keep(&mut self, descriptor: &Descriptor) -> Result<bool, ImageError> {
        let wanted = descriptor.digest;
        let name = Path::new("blobs/sha256").join(wanted.hex());
        match self.take(&name)? {
            Some(loose) if loose.digest != wanted => Err(ImageError::Digest { wanted, found: loose.digest }),
            Some(loose) => self.store().keep(loose).map(|_| true),
            // Two images of one archive have it.
            None => Ok(self.store().has(&wanted)),
        }
    }

    /// Brings a document of the archive into the store.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, ImageError> {
        if !self.keep(descriptor)? {
            return Ok(None);
        }
        self.store().document(&descriptor.digest, "A document of the archive", store::CONFIG).map(Some)
    }

    /// The images of an OCI layout.
    fn oci(&mut self, text: &[u8], docker: &[DockerImage]) -> Result<Vec<Loaded>, ImageError> {
        let index = manifest::index(text, &Digest::of(text))?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in index.manifests.iter().filter(|entry| !is_attestation(entry)) {
            let Some((digest, config)) = self.select(descriptor, NESTED)? else { continue };
            let mut names = names(descriptor);
            if names.is_empty() {
                let same =
                    docker.iter().filter(|image| image.config.to_string_lossy().contains(&config.hex()));
                names.extend(same.flat_map(|image| image.repo_tags.clone().unwrap_or_default()));
            }
            let names = names.iter().map(|name| Ok(reference::parse(name)?.whole()));
            let names = names.collect::<Result<_, ImageError>>()?;
            loaded.push(Loaded { names, manifest: digest });
        }
        if loaded.is_empty() {
            return Err(manifest::other_platform(index.platforms()));
        }
        Ok(loaded)
    }

    /// The image that a descriptor leads to, and its configuration; none if it is for other machines or not there.
    fn select(
        &mut self,
        descriptor: &Descriptor,
        nested: usize,
    ) -> Result<Option<(Digest, Digest)>, ImageError> {
        let Some(text) = self.document(descriptor)? else { return Ok(None) };
        if manifest::is_index(&text) {
            let index = manifest::index(&text, &descriptor.digest)?;
            let below = nested.checked_sub(1).ok_or(ImageError::Document {
                digest: descriptor.digest,
                what: "index of images, but one in another and another",
                source: None,
            })?;
            for entry in index.ours() {
                if let Some(found) = self.select(entry, below)? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        let manifest = manifest::manifest(&text, &descriptor.digest)?;
        for part in manifest.layers.iter().chain([&manifest.config]) {
            if !self.keep(part)? {
                return Err(ImageError::Missing { digest: part.digest });
            }
        }
        Ok(Some((descriptor.digest, manifest.config.digest)))
    }

    /// An image of a Docker archive, which has no manifest of its own.
    fn docker(&mut self, image: &DockerImage) -> Result<Loaded, ImageError> {
        let config = self.part(&image.config, manifest::OCI_CONFIG, store::CONFIG)?;
        let layers = image.layers.iter().map(|layer| self.part(layer, manifest::OCI_LAYER, store::LAYER));
        let layers = layers.collect::<Result<_, _>>()?;
        let media_type = Some(manifest::OCI_MANIFEST.to_owned());
        let manifest = Manifest { schema_version: 2, media_type, config, layers };
        let bad = |error| ImageError::Archive { what: format!("its manifest can't be written: {error}") };
        let manifest = self.store().put(&serde_json::to_vec(&manifest).map_err(bad)?)?;
        let names = image.repo_tags.iter().flatten().map(|name| Ok(reference::parse(name)?.whole()));
        Ok(Loaded { names: names.collect::<Result<_, ImageError>>()?, manifest })
    }

    fn part(&mut self, name: &Path, media_type: &str, limit: u64) -> Result<Descriptor, ImageError> {
        let of = |digest, size| Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: None,
        };
        let clean = clean(name);
        if let Some(loose) = clean.as_deref().map(|name| self.take(name)).transpose()?.flatten() {
            let size = loose.size;
            if size > limit {
                return Err(ImageError::TooLong { what: "A part of the archive", limit });
            }
            return Ok(of(self.store().keep(loose)?, size));
        }
        // Another image of the archive has it too, and took it. Names of newer archives, and of configurations, are digests.
        let stem = name.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = format!("sha256:{}", stem.strip_suffix(".json").unwrap_or(stem)).parse::<Digest>();
        match digest {
            Ok(digest) if self.store().has(&digest) => Ok(of(digest, self.store().read(&digest)?.1)),
            _ => {
                Err(ImageError::Archive { what: format!("{} is named in it, but not there", name.display()) })
            }
        }
    }
}

fn store_error(path: PathBuf, error: io::Error) -> ImageError {
    store("open", path)(error)
}

/// Names that are whole: of OCI archives some have a tag alone, without saying of what.
fn names(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key| descriptor.annotations.as_ref()?.get(key);
    let whole = annotation("io.containerd.image.name");
    let name = annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    whole.or(name).into_iter().cloned().collect()
}

/// What buildx says of how an image was built: no image.
fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotations = descriptor.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("vnd.docker.reference.type"))
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Of ordinary names only; none if it leads out.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
            Component::CurDir => {}
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

/// The current entry's.
struct Data<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.data(buffer).map_err(io::Error::other)
    }
}
