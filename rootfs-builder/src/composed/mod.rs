//! A composed disk: an EROFS image of which only the metadata is stored; the files' data stays in the layers' own files.
//!
//! In: a tree that was read from layers, and its layout. Out: one file, and from that file the answer to "where are the
//! bytes of the image from here on": in the file itself, in a file of a layer, or nowhere because they are zero.
//!
//! ```text
//! block 0        header, with a checksum over all of it
//! next blocks    the metadata blocks of the image, as the guest reads them
//! next blocks    a record for each file that has data, 64 bytes long, sorted by the file's place in the image
//! then           the first image block of each block of records; the layers; all paths
//! ```
//!
//! **Read, not mapped.** A mapped file that gets shorter, or whose disk fails, kills its reader by SIGBUS; a read gives an
//! error. What a mapping would save is a system call for each metadata request, which the block device makes anyway, into
//! the guest's memory and together with those for data. A lookup reads one block of records, then finds it in a small
//! cache; opening reads the header and 4 bytes for every 64 files.
//!
//! The file is hostile to its reader: nothing in it can make the reader panic, allocate without bounds, or name a file that
//! is not beneath its layer's directory. It must never know who reads the image, nor where layers come from.

mod compose;
mod file;
mod read;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use compose::{ComposeError, Composed, Kind, compose};
pub use file::{Checked, OpenError};
pub use read::{Composition, CompositionError, FileId, Layer, Piece};
pub use spec::VERSION;
#[cfg(feature = "fuzzing")]
pub use spec::seal;
pub use write::{LayerRoot, write};
