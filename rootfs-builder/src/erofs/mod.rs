//! A root as an EROFS image: read-only, uncompressed, every file's data block-aligned after all of the metadata.
//!
//! In: a root directory or a [`Tree`](crate::tree::Tree). Out: [`Layout`], the metadata's bytes and the table of where each
//! file's data goes, and with [`build`] a whole image. The two are apart so that a disk can also be served without a copy:
//! metadata from memory, data from the files themselves.
//! It must never know the guest, nor where the root came from.
//!
//! Format: `Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h` in the Linux source.

mod build;
mod copy;
mod directory;
mod inode;
mod layout;
#[cfg(any(test, feature = "fuzzing"))]
mod reader;
mod spec;
#[cfg(test)]
mod tests;
mod xattr;

pub use build::{BuildError, Summary, build, build_with};
pub use copy::CopyError;
pub use layout::{Extent, Layout, LayoutError};
pub use spec::BLOCK_SIZE;

/// For the fuzz target: whether an image's metadata is what a reader wants it to be.
///
/// # Errors
/// What is wrong with it.
#[cfg(feature = "fuzzing")]
pub fn read_back(metadata: &[u8]) -> Result<(), String> {
    reader::read(metadata).map(drop)
}
