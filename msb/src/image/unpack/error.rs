//! Why a layer can't be unpacked.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::super::digest::Digest;

/// A layer that is not unpacked: nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream cannot be read: cut off, or not what it is compressed with.
    #[error("It can't be read")]
    Read(#[source] io::Error),
    /// No tar archive.
    #[error("It is no tar archive, at byte {at}: {what}")]
    Archive {
        /// Where in the archive.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// More than the limits allow.
    #[error("It has more {what} than {limit}, which is taken for an attack")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// A name that leads out of the root, or that no file can have.
    #[error("It has the path {path:?}, which {what}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An entry that no image has.
    #[error("Its entry {path:?} {what}")]
    Entry {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The host refused.
    #[error("Cannot {what} {path:?}{}", hint(source))]
    Host {
        /// What was tried.
        what: &'static str,
        /// In the layer.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Other content than the image's configuration says.
    #[error(
        "Its content has the digest {found}, the image's configuration says {wanted}: get the image again"
    )]
    DiffId {
        /// What is there.
        found: Digest,
        /// What should be.
        wanted: Digest,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            ": layers hold files of other users, devices and trusted attributes; run as root, with CAP_CHOWN, CAP_MKNOD and CAP_SYS_ADMIN"
        }
        Some(Errno::NOSPC | Errno::DQUOT) => ": make room, for example with `msb image prune`",
        _ => "",
    }
}

/// For `map_err`.
pub(super) fn host<E: Into<io::Error>>(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> UnpackError {
    let path = path.into();
    move |source| UnpackError::Host { what, path, source: source.into() }
}
