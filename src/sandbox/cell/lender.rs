//! Who opens the files of layers for a machine that may open nothing: by number, of disks that it was given.
//!
//! Enters: numbers of a process that is not trusted. Leaves: descriptors to read from, of the very files that were composed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, SeekFrom},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{
    wire::{Wire, WireError},
    words::Wanted,
};
use crate::{
    config::DiskConfig,
    machine::{BuildError, DiskError, Files, Layers, RawFile},
};

/// Of the thread that serves.
const STACK: usize = 128 << 10;

/// A disk for a machine that can't open it.
#[derive(Debug)]
pub(super) enum Lent {
    /// An image.
    Raw {
        /// Open.
        file: File,
        /// For reading alone.
        read_only: bool,
    },
    /// A composition.
    Composed {
        /// Open.
        file: File,
        /// By which its layers' files are asked for.
        number: u32,
    },
}

impl Lent {
    /// How long the file is that is written to, or the device: in bytes, 0 of one that is only read.
    pub(super) fn room(&self) -> io::Result<u64> {
        match self {
            Self::Raw { file, read_only: false } => (&*file).seek(SeekFrom::End(0)),
            Self::Raw { .. } | Self::Composed { .. } => Ok(0),
        }
    }
}

/// The layers of every composed disk of a machine.
#[derive(Debug, Default)]
pub(super) struct Lender {
    layers: Mutex<Numbered>,
}

#[derive(Debug, Default)]
struct Numbered {
    by_number: BTreeMap<u32, Layers>,
    next: u32,
}

impl Lender {
    /// Opens a disk.
    ///
    /// # Errors
    /// As for a machine that opens it itself.
    pub(super) fn lend(&self, disk: &DiskConfig) -> Result<Lent, BuildError> {
        match disk {
            DiskConfig::Raw { path, read_only } => {
                let image = RawFile::open(path, *read_only)?;
                let file = image.file().try_clone();
                let file = file.map_err(|error| DiskError { path: path.clone(), problem: error.into() })?;
                Ok(Lent::Raw { file, read_only: *read_only })
            }
            DiskConfig::Composed { composition, layers } => {
                let opened = Layers::open(composition, layers)?;
                let file = opened.composition().try_clone();
                let file =
                    file.map_err(|error| DiskError { path: composition.clone(), problem: error.into() })?;
                let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                let number = layers.next;
                layers.next = layers.next.wrapping_add(1);
                layers.by_number.insert(number, opened);
                Ok(Lent::Composed { file, number })
            }
        }
    }

    /// A disk is there no more.
    pub(super) fn forget(&self, number: u32) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&number);
    }

    /// Answers in a thread of its own, until the other process ends.
    pub(super) fn serve(self: &Arc<Self>, asked: Wire) -> io::Result<()> {
        let lender = Arc::clone(self);
        let serve = move || while lender.answer(&asked) {};
        thread::Builder::new().name("layers".into()).stack_size(STACK).spawn(serve).map(drop)
    }

    /// Answers one question; whether there may be another.
    pub(super) fn answer(&self, asked: &Wire) -> bool {
        let wanted = match asked.receive::<Wanted>() {
            Ok((wanted, _)) => wanted,
            Err(WireError::Nonsense(_)) => return true,
            Err(_) => return false,
        };
        let sent = match self.file(wanted) {
            Ok(file) => asked.send(&Ok::<(), String>(()), &[file.as_fd()], true),
            Err(error) => asked.send(&Err::<(), String>(super::super::chain(&error)), &[], true),
        };
        sent.is_ok()
    }

    fn file(&self, Wanted { disk, file }: Wanted) -> io::Result<File> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.by_number.get(&disk).ok_or(io::ErrorKind::NotFound)?.file(file)
    }
}

/// The files of one disk, had from the lender in the other process.
#[derive(Debug)]
pub(super) struct Asking {
    /// All disks have it together.
    pub(super) wire: Arc<Mutex<Wire>>,
    /// The disk's number.
    pub(super) disk: u32,
}

impl Files for Asking {
    fn open(&mut self, number: u32) -> io::Result<File> {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.send(&Wanted { disk: self.disk, file: number }, &[], true).map_err(io::Error::other)?;
        let (answer, descriptors) = wire.receive::<Result<(), String>>().map_err(io::Error::other)?;
        answer.map_err(io::Error::other)?;
        descriptors.into_iter().next().map(File::from).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
