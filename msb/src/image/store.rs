//! The store's directory: content by its digest, and locks.
//!
//! ```text
//!  images/
//!    blobs/sha256/HEX   manifests, configurations and layers, as they came
//!    index.json         which name is which manifest
//!    shipped.json       what of it came with the program
//!    l/NAME/            unpacked layers
//!    tmp/               what is in the making
//!    lock               shared while images are added or used, exclusive while any are removed
//! ```
//!
//! What is whole is renamed to its place; what is found there is whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::{NamedTempFile, TempPath};

use super::digest::{Digest, Hashing};
use super::error::{ImageError, store};

/// Bytes in a manifest or an index of manifests: as registries allow (OCI distribution-spec, "Pushing Manifests").
pub(super) const MANIFEST: u64 = 4 << 20;
/// Bytes in a configuration.
pub(super) const CONFIG: u64 = 8 << 20;
/// Bytes in a layer as it is stored.
pub(super) const LAYER: u64 = 64 << 30;

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

/// A file that is locked as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Content that is in no place yet.
#[derive(Debug)]
pub(super) struct Loose {
    pub(super) path: TempPath,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Store {
    pub(super) fn open(root: PathBuf) -> Result<Self, ImageError> {
        for folder in ["blobs/sha256", "l", "tmp"] {
            let path = root.join(folder);
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(store("make", path))?;
        }
        Ok(Self { root })
    }

    /// One that is there, and is not changed.
    pub(super) fn read_only(root: PathBuf) -> Self {
        Self { root }
    }

    /// What was taken over of the images that come with the program.
    pub(super) fn shipped(&self) -> PathBuf {
        self.root.join("shipped.json")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("l")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// What is here is not removed while this is held.
    pub(super) fn shared(&self) -> Result<Lock, ImageError> {
        self.lock(self.root.join("lock"), FlockOperation::LockShared)
    }

    /// Nobody adds or uses anything while this is held.
    pub(super) fn exclusive(&self) -> Result<Lock, ImageError> {
        self.lock(self.root.join("lock"), FlockOperation::LockExclusive)
    }

    /// The index is changed by one at a time.
    pub(super) fn index_lock(&self) -> Result<Lock, ImageError> {
        self.lock(self.root.join("index.lock"), FlockOperation::LockExclusive)
    }

    /// One makes what has this name.
    pub(super) fn making(&self, name: &str) -> Result<Lock, ImageError> {
        self.lock(self.temporary().join(format!("{name}.lock")), FlockOperation::LockExclusive)
    }

    /// As [`Self::making`]; none while another one makes it.
    pub(super) fn try_making(&self, name: &str) -> Result<Option<Lock>, ImageError> {
        let path = self.temporary().join(format!("{name}.lock"));
        let file = open_lock(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(errno) => Err(store("lock", path)(errno)),
        }
    }

    fn lock(&self, path: PathBuf, how: FlockOperation) -> Result<Lock, ImageError> {
        let file = open_lock(&path)?;
        loop {
            match flock(&file, how) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map_err(store("lock", path))?,
            }
        }
        Ok(Lock { _file: file })
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// Opens content for reading, and its size.
    pub(super) fn read(&self, digest: &Digest) -> Result<(File, u64), ImageError> {
        let path = self.blob(digest);
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ImageError::Missing { digest: *digest })
            }
            other => other.map_err(store("read", path)),
        }
    }

    /// All of a small document, which is what its digest says.
    pub(super) fn document(
        &self,
        digest: &Digest,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let (file, size) = self.read(digest)?;
        if size > limit {
            return Err(ImageError::TooLong { what, limit });
        }
        let mut text = Vec::new();
        file.take(limit).read_to_end(&mut text).map_err(store("read", self.blob(digest)))?;
        match Digest::of(&text) {
            found if found == *digest => Ok(text),
            found => Err(ImageError::Digest { wanted: *digest, found }),
        }
    }

    /// Brings content to the disk, in no place yet.
    pub(super) fn collect(&self, from: impl Read, limit: u64) -> Result<Loose, ImageError> {
        let fail = || store("write to", self.temporary());
        let mut file = NamedTempFile::new_in(self.temporary()).map_err(fail())?;
        let mut from = Hashing::new(from, limit);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = from.read(&mut buffer).map_err(ImageError::Read)?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(fail())?;
        }
        let (digest, size) = from.finish();
        Ok(Loose { path: file.into_temp_path(), digest, size })
    }

    /// Gives content its place.
    pub(super) fn keep(&self, loose: Loose) -> Result<Digest, ImageError> {
        let Loose { path, digest, .. } = loose;
        if !self.has(&digest) {
            let place = self.blob(&digest);
            File::open(&path).and_then(|file| file.sync_all()).map_err(store("write", &*place))?;
            path.persist(&place).map_err(|error| store("write", &*place)(error.error))?;
            sync_directory(&self.blobs())?;
        }
        Ok(digest)
    }

    /// Gives a small document its place.
    pub(super) fn put(&self, document: &[u8]) -> Result<Digest, ImageError> {
        self.keep(self.collect(document, MANIFEST.max(CONFIG))?)
    }
}

fn open_lock(path: &Path) -> Result<File, ImageError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(store("open", path))
}

/// Replaces the file at `path` as a whole.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(store("write", path))?;
    sync_directory(directory)
}

pub(super) fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(store("write", path))
}

/// Removes a directory with all in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(store("remove", path)),
    }
}
