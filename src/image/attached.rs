//! A root that is an image already: the machine has it as it is, and the host never mounts it.
//!
//! Only for reading. What a guest can write is not given back to the host's kernel to be mounted (it would be read there by
//! code that trusts it): a root that is written to is composed, and comes back as any other does ([`super::writeback`]).

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use rootfs_builder::ext4;

use crate::config::FileSystem;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage {
    /// A block device, or a file.
    pub path: PathBuf,
    /// What is on it.
    pub filesystem: FileSystem,
}

impl RootImage {
    /// What is at `path` and mount(8) calls `kind`, if a machine can have it as it is: a file system that the guest knows
    /// and that needs no repair, since there nobody could write to it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(path: &Path, kind: &str) -> io::Result<Option<Self>> {
        let Some(filesystem) = FileSystem::named(kind) else { return Ok(None) };
        let path = fs::canonicalize(path)?;
        let place = fs::metadata(&path)?.file_type();
        let can = (place.is_file() || place.is_block_device())
            && (filesystem != FileSystem::Ext4 || ext4::needs_no_recovery(&path)?);
        Ok(can.then_some(Self { path, filesystem }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guest_can_mount_without_writing_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        ext4::create_scratch(&disk, 64 << 20).unwrap();
        let of = |path: &Path, kind| RootImage::of(path, kind).unwrap().map(|image| image.filesystem);
        assert_eq!(of(&disk, "ext4"), Some(FileSystem::Ext4));
        assert_eq!(of(&disk, "xfs"), None);
        assert_eq!(of(Path::new("/dev/null"), "erofs"), None);
        assert_eq!(of(dir.path(), "erofs"), None);
        let other = dir.path().join("other");
        fs::write(&other, "no file system").unwrap();
        assert_eq!(of(&other, "ext4"), None);
        RootImage::of(&dir.path().join("none"), "ext4").unwrap_err();
    }
}
