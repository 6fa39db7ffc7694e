//! Why a scratch disk cannot be read: because of what is on it, or because of the host.

use std::io;
use std::path::PathBuf;

/// A scratch disk, or something on it, cannot be read. What is in the text are numbers and constants, nothing of the guest's.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The image file.
    #[error("Cannot open the scratch disk {path:?}")]
    Open {
        /// The image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host could not read its own file.
    #[error("Cannot read block {block} of the scratch disk")]
    Read {
        /// Of 4096 bytes, from the image's start.
        block: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// No scratch disk has this size.
    #[error("The scratch disk has {size} bytes, which none of ours has")]
    Size {
        /// In bytes.
        size: u64,
    },
    /// The super block is not one of ours.
    #[error("The super block of the scratch disk is broken: {field} has a value that is not ours")]
    SuperBlock {
        /// The kernel's name of the field.
        field: &'static str,
    },
    /// The guest turned on something that we do not make.
    #[error("The scratch disk has features that are not ours: {compat:#x}, {incompat:#x}, {ro_compat:#x}")]
    Features {
        /// `s_feature_compat`.
        compat: u32,
        /// `s_feature_incompat`.
        incompat: u32,
        /// `s_feature_ro_compat`.
        ro_compat: u32,
    },
    /// A group's descriptor is wrong.
    #[error("Group {group} of the scratch disk is broken: {what}")]
    Group {
        /// Its number.
        group: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The journal cannot be replayed.
    #[error("The journal of the scratch disk is broken at its block {block}: {what}")]
    Journal {
        /// From the journal's start.
        block: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block number outside of the file system.
    #[error("The scratch disk refers to block {block}, which it does not have")]
    Block {
        /// The number.
        block: u64,
    },
    /// An inode is wrong.
    #[error("Inode {inode} on the scratch disk is broken: {what}")]
    Inode {
        /// Its number.
        inode: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// More data than the disk can hold: blocks are used by several files.
    #[error("The files on the scratch disk claim more blocks than it has")]
    Overbooked,
}

impl DiskError {
    /// Whether the host failed, and not what the guest wrote.
    #[must_use]
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Read { .. })
    }
}
