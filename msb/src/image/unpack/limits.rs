//! How much a layer may hold. Far above what images have, and low enough that no archive takes the machine with it.

/// Of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the archive, decompressed.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 128 << 30 }
    }
}

/// Bytes in one path: `PATH_MAX` with its end (limits.h).
pub(super) const PATH: usize = 4095;
/// Bytes in one name: `NAME_MAX` (limits.h).
pub(super) const NAME: usize = 255;
/// Names in one path.
pub(super) const DEPTH: usize = 512;
/// Links that are followed on the way to one place: `MAXSYMLINKS` (namei.h).
pub(super) const LINKS: usize = 40;
/// Bytes in the extended header of one entry.
pub(super) const HEADER: u64 = 4 << 20;
/// Bytes in the value of one attribute: `XATTR_SIZE_MAX` (limits.h).
pub(super) const XATTR: usize = 65536;
/// Bytes in the name of one attribute: `XATTR_NAME_MAX` (limits.h).
pub(super) const XATTR_NAME: usize = 255;
/// Attributes of one entry.
pub(super) const XATTRS: usize = 128;
