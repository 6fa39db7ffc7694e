//! Reads a composition: where are the image's bytes.
//!
//! In: an open file and an offset in the image. Out: a piece of that file, a piece of a layer's file, or zeros.
//! The file is hostile: opening checks the header only, and each record is checked when it is used. A damaged one is an
//! error of that one lookup. It must never open a file.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use zerocopy::{FromBytes, IntoBytes};

use super::file::{Checked, lawful};
use super::spec::{Header, LayerRecord, MAGIC, Places, Record, VERSION};
use super::table::Table;
use crate::checksum::{SEED, crc32c};
use crate::erofs::BLOCK_SIZE;
use crate::tree::PATH_MAX;

/// A composition cannot be read, or says what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum CompositionError {
    /// The disk it is on.
    #[error("Cannot read the composition of the root")]
    Read(#[source] io::Error),
    /// Another kind of file.
    #[error("The file is not a composition")]
    Magic,
    /// Written by another version of this program.
    #[error(
        "The composition has version {version}, this program reads {VERSION}: remove it, it is made again"
    )]
    Version {
        /// What it says.
        version: u32,
    },
    /// The header's checksum does not fit.
    #[error("The composition's header is damaged: remove the file, it is made again")]
    Checksum,
    /// It was cut, or something was appended.
    #[error("The composition has {found} bytes and not {expected}: remove the file, it is made again")]
    Length {
        /// What the header says.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// A part of it cannot be as it is.
    #[error("The composition is damaged, in {0}: remove the file, it is made again")]
    Damaged(&'static str),
    /// The caller asked for what is not in the image.
    #[error("Offset {offset} is outside of the image of {size} bytes")]
    Outside {
        /// In the image.
        offset: u64,
        /// Of the image.
        size: u64,
    },
}

/// Which file of a [`Composition`]: 0 to [`Composition::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Where bytes of the image are. `len` is never zero: it reaches to the end of what is in one place, often far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// In the composition's own file.
    Metadata {
        /// In bytes from the file's start.
        file_offset: u64,
        /// In bytes.
        len: u64,
    },
    /// In a file of a layer.
    Data {
        /// Which one: see [`Composition::file`].
        file: FileId,
        /// In bytes from that file's start.
        file_offset: u64,
        /// In bytes.
        len: u64,
    },
    /// Nowhere: they are zero.
    Zeros {
        /// In bytes.
        len: u64,
    },
}

/// A layer's directory, as it was when the composition was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// `stx_dev_major`, `stx_dev_minor`.
    pub device: (u32, u32),
    /// `stx_ino`.
    pub inode: u64,
}

/// An open composition. Lookups from several threads at once are possible.
#[derive(Debug)]
pub struct Composition {
    file: File,
    blocks: u32,
    metadata_blocks: u32,
    files: u32,
    layers: u32,
    strings: u64,
    places: Places,
    table: Table,
}

impl Composition {
    /// Opens a composition. What it costs does not depend on the image's size, but for 4 bytes read for each 64 files.
    ///
    /// # Errors
    /// [`CompositionError`].
    pub fn open(file: File) -> Result<Self, CompositionError> {
        let mut bytes = [0; size_of::<Header>()];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CompositionError::Magic);
            }
            other => other.map_err(CompositionError::Read)?,
        }
        let header = Header::read_from_bytes(&bytes).expect("the buffer has its size");
        if header.magic != MAGIC {
            return Err(CompositionError::Magic);
        }
        if header.version.get() != VERSION {
            return Err(CompositionError::Version { version: header.version.get() });
        }
        let mut summed = header;
        summed.checksum.set(0);
        if crc32c(SEED, summed.as_bytes()) != header.checksum.get() {
            return Err(CompositionError::Checksum);
        }
        let places = Places::of(&header).ok_or(CompositionError::Damaged("its size"))?;
        let found = file.metadata().map_err(CompositionError::Read)?.len();
        if found != places.end {
            return Err(CompositionError::Length { expected: places.end, found });
        }
        let (blocks, metadata_blocks) = (header.blocks.get(), header.metadata_blocks.get());
        if metadata_blocks == 0 || metadata_blocks > blocks {
            return Err(CompositionError::Damaged("the size of its image"));
        }
        let files = header.files.get();
        let table = Table::read(&file, places, files)?;
        let (layers, strings) = (header.layers.get(), header.strings.get());
        Ok(Self { file, blocks, metadata_blocks, files, layers, strings, places, table })
    }

    /// The file that [`Piece::Metadata`] is in.
    #[must_use]
    pub fn file_of_metadata(&self) -> &File {
        &self.file
    }

    /// The size of the image in blocks of [`BLOCK_SIZE`] bytes.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The size of the image in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        image_bytes(self.blocks)
    }

    /// Where the image's first blocks are in the file, in bytes.
    #[must_use]
    pub fn metadata(&self) -> Range<u64> {
        self.places.metadata..self.places.metadata + image_bytes(self.metadata_blocks)
    }

    /// How many files have data in the image.
    #[must_use]
    pub fn files(&self) -> u32 {
        self.files
    }

    /// How many layers it was made from.
    #[must_use]
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// Layer `index`.
    ///
    /// # Errors
    /// [`CompositionError::Read`] and [`CompositionError::Damaged`].
    pub fn layer(&self, index: u32) -> Result<Layer, CompositionError> {
        const PART: &str = "a layer";
        if index >= self.layers {
            return Err(CompositionError::Damaged(PART));
        }
        let mut bytes = [0; size_of::<LayerRecord>()];
        let offset = self.places.layers + u64::from(index) * size_of::<LayerRecord>() as u64;
        self.file.read_exact_at(&mut bytes, offset).map_err(CompositionError::Read)?;
        let record = LayerRecord::read_from_bytes(&bytes).expect("the buffer has its size");
        let path = self.string(record.path_offset.get(), record.path_length.get(), PART)?;
        if path.first() != Some(&b'/') || path.contains(&0) {
            return Err(CompositionError::Damaged(PART));
        }
        Ok(Layer {
            path: PathBuf::from(std::ffi::OsString::from_vec(path)),
            device: (record.device_major.get(), record.device_minor.get()),
            inode: record.inode.get(),
        })
    }

    /// Where the image's byte `image_offset` is, and how many more follow it there.
    ///
    /// # Errors
    /// [`CompositionError::Outside`], [`CompositionError::Read`] and [`CompositionError::Damaged`].
    pub fn lookup(&self, image_offset: u64) -> Result<Piece, CompositionError> {
        let size = self.size();
        if image_offset >= size {
            return Err(CompositionError::Outside { offset: image_offset, size });
        }
        let metadata = self.metadata();
        let data = image_bytes(self.metadata_blocks);
        if image_offset < data {
            return Ok(Piece::Metadata {
                file_offset: metadata.start + image_offset,
                len: data - image_offset,
            });
        }
        let block = u32::try_from(image_offset / BLOCK_SIZE as u64).expect("the image has fewer than 2^32");
        let Some((id, record)) = self.table.find(&self.file, block)? else {
            let next =
                if self.files > 0 { self.table.get(&self.file, 0)?.first_block.get() } else { self.blocks };
            return zeros(image_offset, image_bytes(next.min(self.blocks)));
        };
        let (start, length, next) = self.span(id, &record)?;
        let within = image_offset.checked_sub(start).ok_or(CompositionError::Damaged("a file's place"))?;
        if within < length {
            return Ok(Piece::Data { file: FileId(id), file_offset: within, len: length - within });
        }
        zeros(image_offset, next)
    }

    /// The file that `id` stands for. Its path is relative to its layer's directory and does not leave it by itself; that
    /// no symbolic link leads out is for the one who opens it: [`Checked::open`].
    ///
    /// # Errors
    /// [`CompositionError::Read`] and [`CompositionError::Damaged`].
    pub fn file(&self, id: FileId) -> Result<Checked, CompositionError> {
        const PART: &str = "a file's path";
        let record = self.table.get(&self.file, id.0)?;
        if u32::from(record.layer.get()) >= self.layers {
            return Err(CompositionError::Damaged("a file's layer"));
        }
        let path = self.string(record.path_offset.get(), record.path_length.get().into(), PART)?;
        if !lawful(&path) {
            return Err(CompositionError::Damaged(PART));
        }
        let path = CString::new(path).map_err(|_| CompositionError::Damaged(PART))?;
        Ok(Checked::new(path, &record))
    }

    /// Where a record's data begins in the image, how long it is, and where something else begins behind it, in bytes.
    fn span(&self, id: u32, record: &Record) -> Result<(u64, u64, u64), CompositionError> {
        const PART: &str = "a file's place";
        let (first, length) = (record.first_block.get(), record.length.get());
        let next = self.table.next_block(&self.file, id)?.unwrap_or(self.blocks);
        if first < self.metadata_blocks || next <= first || next > self.blocks || length == 0 {
            return Err(CompositionError::Damaged(PART));
        }
        let (start, next) = (image_bytes(first), image_bytes(next));
        if length > next - start {
            return Err(CompositionError::Damaged(PART));
        }
        Ok((start, length, next))
    }

    fn string(&self, offset: u64, length: u32, part: &'static str) -> Result<Vec<u8>, CompositionError> {
        let end = offset.checked_add(u64::from(length));
        let length = usize::try_from(length).expect("usize has at least 32 bits");
        if length > PATH_MAX || end.is_none_or(|end| end > self.strings) {
            return Err(CompositionError::Damaged(part));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.places.strings + offset).map_err(CompositionError::Read)?;
        Ok(bytes)
    }
}

fn zeros(from: u64, to: u64) -> Result<Piece, CompositionError> {
    match to.checked_sub(from) {
        Some(len @ 1..) => Ok(Piece::Zeros { len }),
        _ => Err(CompositionError::Damaged("a file's place")),
    }
}

fn image_bytes(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK_SIZE as u64
}
