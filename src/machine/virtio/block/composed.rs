//! A read-only disk whose metadata is one file and whose data are the layers' own files: nothing was copied for it.
//!
//! Enters: a composition, and who opens the files of its layers: [`Layers`] by itself, or another process for a machine
//! that may open nothing. Leaves: bytes of the image, straight from the right file into guest memory. A file is opened at its
//! first use and must be the very one that was composed; one that changed, shrank or went is an I/O error of that request,
//! also when it was served before. Must never know what made the composition.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rootfs_builder::composed::{Checked, Composition, CompositionError, FileId, Piece};
use thiserror::Error;

use super::disk::{Disk, Place};
use super::request::SECTOR;
use crate::machine::boot::FileProblem;
use crate::machine::boot::file;

/// Files of the layers that are kept open; a guest works on few at a time.
const OPEN_MAX: usize = 128;

/// Why a composed disk cannot be had.
#[derive(Debug, Error)]
pub enum ComposedError {
    /// The composition's file.
    #[error("Cannot use the composition {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: FileProblem,
    },
    /// What is in it.
    #[error("Cannot use the composition {}", path.display())]
    Composition {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CompositionError,
    },
    /// It was made from another number of layers.
    #[error("The composition {} was made from {expected} layers, not from {got}", path.display())]
    Layers {
        /// Which one.
        path: PathBuf,
        /// As it says.
        expected: u32,
        /// As given.
        got: usize,
    },
    /// A layer's directory.
    #[error("Cannot use the layer {}", path.display())]
    Layer {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        problem: FileProblem,
    },
    /// Another directory has a layer's name by now.
    #[error("The layer {} is not the directory that was composed: start the container again", path.display())]
    Replaced {
        /// Which one.
        path: PathBuf,
    },
}

/// Who opens the files of a composition's layers.
pub trait Files: Send + Debug {
    /// The file of that number in the composition, for reading.
    ///
    /// # Errors
    /// When it is not there, or is not the file that was composed.
    fn open(&mut self, number: u32) -> io::Result<File>;
}

/// A composition with the directories of its layers.
#[derive(Debug)]
pub struct Layers {
    composition: Composition,
    directories: Vec<File>,
}

impl Layers {
    /// Opens the composition in `path` and its layers' directories, the lowest first.
    ///
    /// # Errors
    /// [`ComposedError`].
    pub fn open(path: &Path, layers: &[PathBuf]) -> Result<Self, ComposedError> {
        let (file, _) = file::open(path, false)
            .map_err(|problem| ComposedError::File { path: path.to_owned(), problem })?;
        let bad = |source| ComposedError::Composition { path: path.to_owned(), source };
        let composition = Composition::open(file).map_err(bad)?;
        let (expected, got) = (composition.layers(), layers.len());
        if usize::try_from(expected).ok() != Some(got) {
            return Err(ComposedError::Layers { path: path.to_owned(), expected, got });
        }
        let mut opened = Vec::with_capacity(got);
        for (index, layer) in (0..).zip(layers) {
            let recorded = composition.layer(index).map_err(bad)?;
            let failed =
                |error: io::Error| ComposedError::Layer { path: layer.clone(), problem: error.into() };
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let directory = OpenOptions::new().read(true).custom_flags(flags).open(layer).map_err(failed)?;
            if directory.metadata().map_err(failed)?.ino() != recorded.inode {
                return Err(ComposedError::Replaced { path: layer.clone() });
            }
            opened.push(directory);
        }
        Ok(Self { composition, directories: opened })
    }

    /// The composition's own file.
    #[must_use]
    pub fn composition(&self) -> &File {
        self.composition.file_of_metadata()
    }

    /// As [`Files::open`].
    ///
    /// # Errors
    /// As there.
    pub fn file(&self, number: u32) -> io::Result<File> {
        let checked = self.composition.file(FileId(number)).map_err(io::Error::other)?;
        let layer = self.directories.get(usize::from(checked.layer)).ok_or(ErrorKind::InvalidData)?;
        checked.open(layer).map_err(io::Error::other)
    }
}

impl Files for Layers {
    fn open(&mut self, number: u32) -> io::Result<File> {
        self.file(number)
    }
}

/// The disk.
#[derive(Debug)]
pub struct Composed {
    composition: Composition,
    /// The composition's own file.
    metadata: Arc<File>,
    files: Box<dyn Files>,
    open: OpenFiles,
}

impl Composed {
    /// The disk of the composition in `file`, whose layers' files are had from `files`.
    ///
    /// # Errors
    /// When it is no composition.
    pub fn new(file: File, files: Box<dyn Files>) -> Result<Self, CompositionError> {
        let composition = Composition::open(file)?;
        let metadata = composition.file_of_metadata().try_clone().map_err(CompositionError::Read)?;
        Ok(Self { composition, metadata: Arc::new(metadata), files, open: OpenFiles::default() })
    }

    /// The disk of the composition in `path`, which opens its layers' files itself.
    ///
    /// # Errors
    /// [`ComposedError`].
    pub fn open(path: &Path, layers: &[PathBuf]) -> Result<Self, ComposedError> {
        let layers = Layers::open(path, layers)?;
        let bad = |source| ComposedError::Composition { path: path.to_owned(), source };
        let file = layers.composition().try_clone().map_err(|error| bad(CompositionError::Read(error)))?;
        Self::new(file, Box::new(layers)).map_err(bad)
    }
}

impl Disk for Composed {
    fn sectors(&self) -> u64 {
        self.composition.size() / SECTOR
    }

    fn locate(&mut self, offset: u64, length: usize) -> io::Result<Place> {
        let piece = self.composition.lookup(offset).map_err(io::Error::other)?;
        let (Piece::Metadata { len, .. } | Piece::Data { len, .. } | Piece::Zeros { len }) = piece;
        let length = usize::try_from(len).unwrap_or(usize::MAX).min(length);
        Ok(match piece {
            Piece::Metadata { file_offset, .. } => {
                Place::File { file: Arc::clone(&self.metadata), offset: file_offset, length, unchanged: None }
            }
            Piece::Data { file, file_offset, .. } => {
                let used = self.open.get(file, &self.composition, &mut *self.files)?;
                let (file, checked) = (Arc::clone(&used.file), Arc::clone(&used.checked));
                Place::File { file, offset: file_offset, length, unchanged: Some(checked) }
            }
            Piece::Zeros { .. } => Place::Zeros { length },
        })
    }

    fn written(&self) -> Option<&Arc<File>> {
        None
    }
}

/// The layers' files that were used last.
#[derive(Debug, Default)]
struct OpenFiles {
    files: HashMap<FileId, Used>,
    clock: u64,
}

#[derive(Debug)]
struct Used {
    checked: Arc<Checked>,
    file: Arc<File>,
    last: u64,
}

impl OpenFiles {
    fn get(&mut self, id: FileId, of: &Composition, files: &mut dyn Files) -> io::Result<&Used> {
        self.clock += 1;
        if self.files.len() >= OPEN_MAX && !self.files.contains_key(&id) {
            let oldest = self.files.iter().min_by_key(|(_, used)| used.last).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.files.remove(&oldest));
        }
        let used = match self.files.entry(id) {
            Entry::Occupied(used) => used.into_mut(),
            Entry::Vacant(place) => {
                let checked = of.file(id).map_err(io::Error::other)?;
                let file = files.open(id.0)?;
                place.insert(Used { checked: Arc::new(checked), file: Arc::new(file), last: 0 })
            }
        };
        used.last = self.clock;
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rootfs_builder::composed::{Kind, compose};
    use rootfs_builder::output::Durability;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    use super::super::job::{Job, Transfer, Work};
    use super::super::operation::Direction;
    use super::*;

    const BLOCK: u64 = 4096;

    /// A root of one layer with these files, composed.
    fn disk(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Composed) {
        let directory = tempfile::tempdir().unwrap();
        let layer = directory.path().join("layer");
        fs::create_dir(&layer).unwrap();
        for (name, content) in files {
            fs::write(layer.join(name), content).unwrap();
        }
        let layers = [fs::canonicalize(&layer).unwrap()];
        let out = directory.path().join("composition");
        compose(&layers, Kind::Plain, &out, Durability::Throwaway).unwrap().unwrap();
        let disk = Composed::open(&out, &layers).unwrap();
        (directory, disk)
    }

    /// Reads `length` bytes at `offset` into two buffers of guest memory, by blocking calls.
    fn read(disk: &mut Composed, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let first = length.min(512);
        let slice = |at: u64, length| memory.get_slice(GuestAddress(at), length).unwrap();
        memory.write_slice(&vec![0xee; 2 << 20], GuestAddress(0)).unwrap();
        let buffers = [slice(0, first), slice(1 << 20, length - first)];
        let work = Work::Transfer(Transfer::new(Direction::Read, offset, &buffers));
        let mut job = Job { head: 0, status: GuestAddress(0), writable: 1, work };
        while let Some(operation) = job.next(disk)? {
            job.completed(operation.blocking())?;
        }
        let mut bytes = vec![0; length];
        slice(0, first).copy_to(&mut bytes[..first]);
        slice(1 << 20, length - first).copy_to(&mut bytes[first..]);
        Ok(bytes)
    }

    /// The whole disk.
    fn whole(disk: &mut Composed) -> io::Result<Vec<u8>> {
        let length = disk.sectors() * SECTOR;
        let step = 3 * BLOCK;
        let pieces = (0..length).step_by(usize::try_from(step).unwrap()).map(|at| {
            let count = usize::try_from(step.min(length - at)).unwrap();
            read(disk, at, count)
        });
        Ok(pieces.collect::<io::Result<Vec<_>>>()?.concat())
    }

    #[test]
    fn the_image_is_metadata_and_the_files() {
        let (one, two) = (vec![1; 5000], vec![2; 20000]);
        let (_directory, mut disk) = disk(&[("one", &one), ("two", &two), ("empty", b"")]);
        let image = whole(&mut disk).unwrap();
        let magic = 0xe0f5_e1e2_u32.to_le_bytes();
        assert_eq!(image[1024..1028], magic);
        let found = |bytes: &[u8]| {
            let at = image.windows(bytes.len()).position(|window| window == bytes).unwrap();
            let end = (at + bytes.len()).next_multiple_of(4096);
            assert_eq!((at % 4096, image[at + bytes.len()..end].iter().all(|byte| *byte == 0)), (0, true));
        };
        found(&one);
        found(&two);
        assert_eq!(image.len(), 4096 * (1 + 2 + 5), "one block of metadata, and the data");
    }

    #[test]
    fn a_file_that_changes_is_an_error_and_the_rest_is_not() {
        let changes: [fn(&Path); 5] = [
            |file| fs::write(file, vec![9; 9000]).unwrap(),
            |file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(10).unwrap(),
            |file| fs::remove_file(file).unwrap(),
            |file| {
                fs::remove_file(file).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
            },
            |file| {
                fs::rename(file, file.with_extension("old")).unwrap();
                fs::write(file, vec![1; 9000]).unwrap();
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            for served_before in [false, true] {
                let (directory, mut disk) = disk(&[("a", &[1; 9000]), ("b", &[2; 100])]);
                if served_before {
                    read(&mut disk, BLOCK, 4096).unwrap();
                }
                // The times of files move in steps of some milliseconds: a change within one is not seen.
                std::thread::sleep(std::time::Duration::from_millis(30));
                change(&directory.path().join("layer/a"));
                let outcome = read(&mut disk, BLOCK, 4096);
                // What only took the name away does not concern the file that is open; neither would it with runc.
                let harmless = served_before && index >= 2;
                assert!(outcome.is_err() || harmless, "{index} {served_before}");
                assert_eq!(read(&mut disk, 4 * BLOCK, 512).unwrap()[..101], [&[2; 100][..], &[0]].concat());
            }
        }
    }

    #[test]
    fn few_files_stay_open() {
        let files: Vec<String> = (0..OPEN_MAX + 50).map(|number| format!("f{number:04}")).collect();
        let contents: Vec<(&str, &[u8])> = files.iter().map(|name| (&**name, name.as_bytes())).collect();
        let (_directory, mut disk) = disk(&contents);
        let image = whole(&mut disk).unwrap();
        assert!(disk.open.files.len() <= OPEN_MAX);
        assert!(image.ends_with(&[files.last().unwrap().as_bytes(), &[0; 4091]].concat()));
    }

    #[test]
    fn another_directory_or_number_of_layers_is_refused() {
        let (directory, _) = disk(&[("a", b"a")]);
        let out = directory.path().join("composition");
        let layer = fs::canonicalize(directory.path().join("layer")).unwrap();
        assert!(matches!(Composed::open(&out, &[]), Err(ComposedError::Layers { expected: 1, got: 0, .. })));
        fs::rename(&layer, directory.path().join("old")).unwrap();
        fs::create_dir(&layer).unwrap();
        let replaced = Composed::open(&out, std::slice::from_ref(&layer));
        assert!(matches!(replaced, Err(ComposedError::Replaced { .. })));
        fs::write(&out, b"").unwrap();
        assert!(matches!(Composed::open(&out, &[layer]), Err(ComposedError::File { .. })));
    }
}
