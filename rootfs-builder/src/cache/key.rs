//! What a composition was made from, as a name.
//!
//! In: layers, by their directories. Out: 64 hexadecimal digits that are the same for the same layers only.
//! It must never look into a layer.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use sha2::{Digest, Sha256};

use super::{CacheError, LOCKS};
use crate::composed::VERSION;
use crate::tree::Marks;

/// The identity of a list of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Of these directories; and their paths without symbolic links.
    pub(super) fn of(layers: &[PathBuf], marks: Marks) -> Result<(Vec<PathBuf>, Self), CacheError> {
        let mut hash = Sha256::new();
        hash.update(VERSION.to_le_bytes());
        hash.update([match marks {
            Marks::Trusted => 0_u8,
            Marks::User => 1,
        }]);
        let mut paths = Vec::with_capacity(layers.len());
        for layer in layers {
            let failed = |source| CacheError::Layer { path: layer.clone(), source };
            let path = fs::canonicalize(layer).map_err(failed)?;
            let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
            let stat =
                statx(CWD, &path, AtFlags::SYMLINK_NOFOLLOW, wanted).map_err(|error| failed(error.into()))?;
            let name = path.as_os_str().as_bytes();
            hash.update(u64::try_from(name.len()).expect("usize has at most 64 bits").to_le_bytes());
            hash.update(name);
            hash.update(stat.stx_dev_major.to_le_bytes());
            hash.update(stat.stx_dev_minor.to_le_bytes());
            hash.update(stat.stx_ino.to_le_bytes());
            // Zero where the file system has none.
            for time in [stat.stx_btime, stat.stx_ctime, stat.stx_mtime] {
                hash.update(time.tv_sec.to_le_bytes());
                hash.update(time.tv_nsec.to_le_bytes());
            }
            paths.push(path);
        }
        Ok((paths, Self(hash.finalize().into())))
    }

    /// In hexadecimal.
    pub(super) fn name(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Which lock is for it: its name's first digit.
    pub(super) fn lock(&self) -> u8 {
        self.0[0] / (u8::MAX / LOCKS + 1)
    }
}
