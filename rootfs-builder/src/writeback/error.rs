//! Why what a container wrote did not all come back.

use std::io;
use std::path::PathBuf;

use crate::ext4::reader::DiskError;
use crate::output::OutputError;

/// A write-back did not happen, or not to its end. The scratch disk is as it was: keep it, and try again once the reason is
/// gone; what has been brought already is brought again or found to be there.
#[derive(Debug, thiserror::Error)]
pub enum WritebackError {
    /// The scratch disk itself.
    #[error("The scratch disk cannot be read")]
    Disk(#[from] DiskError),
    /// The upper directory is not a tree of unique names.
    #[error("The scratch disk's inode {inode} is broken: {what}")]
    Tree {
        /// Its number.
        inode: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// Overlayfs recorded something that needs a mount option which guests do not have.
    #[error("{path:?} in the container has an overlayfs record that is not supported: {record}")]
    Record {
        /// Relative to the root.
        path: PathBuf,
        /// The extended attribute.
        record: &'static str,
    },
    /// More than anybody sane writes.
    #[error("The container wrote too much to bring back: more than {limit} {what}")]
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Something is mounted below the root, where the container wrote.
    #[error("Another file system is mounted at {path:?} in the root: unmount it, then try again")]
    Mounted {
        /// Relative to the root.
        path: PathBuf,
    },
    /// The host could not do it.
    #[error("Cannot {action} {path:?} in the root")]
    Host {
        /// What was tried.
        action: &'static str,
        /// Relative to the root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record of the write-back before this one is damaged.
    #[error(
        "The manifest {path:?} is damaged: remove it to go on; files deleted since then may come to light"
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("Cannot read the manifest {path:?}")]
    ReadManifest {
        /// The manifest.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The manifest cannot be written.
    #[error("Cannot store the manifest")]
    WriteManifest(#[from] OutputError),
}

impl WritebackError {
    /// Whether the guest is to blame: trying again with the same disk gives the same error.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        match self {
            Self::Disk(error) => !error.is_host(),
            Self::Tree { .. } | Self::Record { .. } | Self::Limit { .. } => true,
            Self::Mounted { .. }
            | Self::Host { .. }
            | Self::Manifest { .. }
            | Self::ReadManifest { .. }
            | Self::WriteManifest(_) => false,
        }
    }
}
