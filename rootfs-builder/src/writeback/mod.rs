//! What a container wrote comes back: the overlay's upper directory on a scratch disk is applied to the root on the host.
//!
//! In: a scratch disk that a hostile guest has written and that nobody writes now; the root, which is a directory or an overlay
//! mount; what its container may give files ([`Rights`]). Out: the root as the container saw it.
//! It must never know what a container is, nor mount anything, nor follow a name out of the root.
//!
//! * The whole upper directory is read and checked first ([`plan`]): of a broken disk, nothing comes back, and nothing changes.
//! * Directories are opened by openat2(2) beneath the root, through no link, no magic link and no mount; all else is done
//!   with one name in such a directory, by calls that do not follow it ([`host`]).
//! * Each file is made under [`TEMPORARY`] and renamed: there is the old one or the new one. A run that was killed is
//!   repeated with the same result, and takes away the temporary file that it left.
//! * An opaque directory is not emptied and filled again: what it does not have is removed. That is the same at the end, and
//!   less is missing in between.
//! * A guest that is only paused is written back again later: [`manifest`] remembers what was brought, for what has been deleted
//!   since without a trace, and in order not to copy again what has not changed.
//!
//! Rules of overlayfs: `Documentation/filesystems/overlayfs.rst`. Its options that change the format of an upper directory
//! (`redirect_dir`, `metacopy`, `userxattr`) are off in our guests; their records are refused.

mod apply;
mod attributes;
mod copy;
mod error;
mod host;
mod manifest;
mod names;
mod place;
mod plan;
mod rights;

use std::path::{Path, PathBuf};

pub use apply::{apply, is_empty};
pub use error::WritebackError;
pub use rights::{Ids, Rights};

use crate::output::Durability;

/// Where the agent makes overlayfs' upper directory on the scratch disk, in its root.
const UPPER: &[u8] = b"upper";
/// The only name that is ever made and not the container's. A container's own file of this name does not come back.
const TEMPORARY: &str = ".msb-writeback-7c1f0b6e52d94ad8";
/// How many [`Skipped`] are told of.
const SKIPPED_MAX: usize = 32;

/// Which kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Of `c` in the OCI specification.
    Character,
    /// Of `b`.
    Block,
}

/// Device nodes that may appear in the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Which kind.
    pub kind: DeviceKind,
    /// Any if none.
    pub major: Option<u32>,
    /// Any if none.
    pub minor: Option<u32>,
}

/// How much a container may have written. What needs no limit here is bounded by the disk's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names, whiteouts too. Each takes about 50 bytes of memory.
    pub names: usize,
    /// Bytes of all names.
    pub name_bytes: usize,
    /// Directories in a path, and levels of a tree that is removed: each holds a descriptor.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { names: 4 << 20, name_bytes: 256 << 20, depth: 500 }
    }
}

/// How to write back.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What its container may give files. What else there is comes without, and is told of.
    pub rights: Rights,
    /// Where to remember what was brought, for as long as the scratch disk lives. Needed if it is ever written back twice; to
    /// be removed with the scratch disk.
    pub manifest: Option<PathBuf>,
    /// The scratch disk is not written any more: the manifest is used, but not written.
    pub last: bool,
    /// What must survive the host's crash.
    pub durability: Durability,
    /// How much is too much.
    pub limits: Limits,
}

/// Something that did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Relative to the root.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why something did not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// A device that the options do not allow and that was not there.
    Device,
    /// Our own temporary name.
    Reserved,
    /// The file came back, but some of its extended attributes or set IDs did not: they are no business of this container, or
    /// the host's file system cannot hold them.
    Attributes,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files of any kind but directories that were made anew.
    pub files: u64,
    /// Names given to files that had one.
    pub links: u64,
    /// Files that had not changed since the write-back before.
    pub unchanged: u64,
    /// Directories that were made, or that got new attributes or content.
    pub directories: u64,
    /// Whiteouts, and names that are gone since the write-back before.
    pub removed: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// The first of what did not come back.
    pub skipped: Vec<Skipped>,
    /// How many there are of those.
    pub skipped_count: u64,
    /// The guest's kernel had noted an error of its disk, for example because the host's was full.
    pub disk_had_errors: bool,
}

impl Summary {
    fn skip(&mut self, path: &Path, reason: SkipReason) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_MAX {
            self.skipped.push(Skipped { path: path.to_owned(), reason });
        }
    }
}
