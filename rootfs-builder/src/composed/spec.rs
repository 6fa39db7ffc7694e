//! The structures of a composition, all little-endian. The format is this program's own; [`VERSION`] is its number.
//!
//! In and out: bytes. It must never know what the fields are filled with.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::erofs::BLOCK_SIZE;

/// The first bytes of the file.
pub const MAGIC: [u8; 8] = *b"MSBCOMP\n";
/// Counted up with every change to this file or to what the metadata blocks hold: an older file is then made again.
pub const VERSION: u32 = 1;
/// Records in a block of them.
pub const RECORDS_PER_BLOCK: usize = BLOCK_SIZE / size_of::<Record>();
/// In [`Record::ctime_nanoseconds`]: the file's ctime does not count.
pub const NO_CTIME: u32 = u32::MAX;

/// At the file's start; the rest of its block is zero.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32C over this structure with zero here.
    pub checksum: U32,
    /// Blocks of the image.
    pub blocks: U32,
    /// How many of them are metadata, the first ones.
    pub metadata_blocks: U32,
    /// Records.
    pub files: U32,
    /// Layers.
    pub layers: U32,
    /// Bytes of all paths.
    pub strings: U64,
}

/// A regular file with data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    /// Where its data begins in the image, in blocks.
    pub first_block: U32,
    /// Index of its layer.
    pub layer: U16,
    /// Bytes of its path.
    pub path_length: U16,
    /// Bytes of its data: the file's size.
    pub length: U64,
    /// Where its path begins in the strings, in bytes.
    pub path_offset: U64,
    /// `stx_ino`.
    pub inode: U64,
    /// `stx_mtime.tv_sec`.
    pub mtime_seconds: I64,
    /// `stx_ctime.tv_sec`.
    pub ctime_seconds: I64,
    /// `stx_mtime.tv_nsec`.
    pub mtime_nanoseconds: U32,
    /// `stx_ctime.tv_nsec`, or [`NO_CTIME`].
    pub ctime_nanoseconds: U32,
    /// `stx_dev_major`.
    pub device_major: U32,
    /// `stx_dev_minor`.
    pub device_minor: U32,
}

/// A layer's directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LayerRecord {
    /// `stx_ino` of the directory.
    pub inode: U64,
    /// `stx_dev_major` of the directory.
    pub device_major: U32,
    /// `stx_dev_minor` of the directory.
    pub device_minor: U32,
    /// Where its absolute path begins in the strings, in bytes.
    pub path_offset: U64,
    /// Bytes of its path.
    pub path_length: U32,
    /// Zero.
    pub reserved: U32,
}

/// Where everything is in the file, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The image's first block.
    pub metadata: u64,
    /// The first block of records.
    pub records: u64,
    /// How many blocks of records there are, and so how many numbers of 32 bits at `index`.
    pub record_blocks: u64,
    /// The first image block of each block of records.
    pub index: u64,
    /// The layers.
    pub layers: u64,
    /// The paths.
    pub strings: u64,
    /// The file's end.
    pub end: u64,
}

impl Places {
    /// Of a file with this header; none if it would be longer than a file can be.
    #[must_use]
    pub fn of(header: &Header) -> Option<Self> {
        const BLOCK: u64 = BLOCK_SIZE as u64;
        let metadata = BLOCK;
        let records = metadata + BLOCK * u64::from(header.metadata_blocks.get());
        let record_blocks = u64::from(header.files.get()).div_ceil(RECORDS_PER_BLOCK as u64);
        let index = records + BLOCK * record_blocks;
        let layers = index + record_blocks * size_of::<u32>() as u64;
        let strings = layers + u64::from(header.layers.get()) * size_of::<LayerRecord>() as u64;
        // The products above are below 2^46; this is the one number that could be anything.
        let end = strings.checked_add(header.strings.get())?;
        Some(Self { metadata, records, record_blocks, index, layers, strings, end })
    }
}

const _: () = {
    assert!(size_of::<Header>() == 40);
    assert!(size_of::<Record>() == 64);
    assert!(size_of::<LayerRecord>() == 32);
    assert!(RECORDS_PER_BLOCK * size_of::<Record>() == BLOCK_SIZE);
};

/// Makes the checksum of a composition right: a fuzzer would not find it.
#[cfg(feature = "fuzzing")]
pub fn seal(composition: &mut [u8]) {
    use crate::checksum::{SEED, crc32c};

    let Some(bytes) = composition.get_mut(..size_of::<Header>()) else { return };
    let Ok(header) = Header::mut_from_bytes(bytes) else { return };
    header.checksum.set(0);
    let sum = crc32c(SEED, header.as_bytes());
    header.checksum.set(sum);
}
