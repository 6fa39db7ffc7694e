//! An empty, writable ext4 file system in a sparse file: a few blocks of real writes, whatever its size.
//!
//! In: a path and a size. Out: an image that the guest's kernel mounts as it is.
//! It must never know what will be stored there.
//!
//! The format is written here rather than by a library. The one that could serve, `mkext4` 0.0.3, is made to fill an image:
//! it initialises the bitmaps of every group (4 MiB of writes for 64 GiB, and one call for each) and leaves out `64bit`.
//! An empty image needs no more than what is in these files:
//!
//! * every group but the first and the last is uninitialised, so that its bitmaps need not exist (`uninit_bg`);
//! * inode tables are marked as zeroed, because a sparse file is: otherwise the guest would write them, 2 MiB per 128 MiB;
//! * no backups of super block and descriptors (`sparse_super2` without any): the disk lives no longer than its container;
//! * checksums on group descriptors only, for the same reason: metadata checksums would cost the guest time at every write.
//!
//! Format: `Documentation/filesystems/ext4` and `fs/ext4/ext4.h` in the Linux source.

mod build;
mod geometry;
pub mod reader;
mod spec;

pub use build::{ScratchError, create_scratch, create_scratch_with};
pub use geometry::{SIZE_MAX, SIZE_MIN};
pub use reader::needs_no_recovery;
