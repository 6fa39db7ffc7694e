//! The extended attributes of a file which must not be opened.
//!
//! In: an open directory and a name in it. Out: the attributes that mean something inside a guest, sorted by name.
//! It must never follow a symbolic link. There is no `llistxattrat` before Linux 6.13, so the name is reached through the
//! directory's descriptor in `/proc/self/fd`: only the last component is the image's, and these calls do not follow it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::Xattr;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of linux/limits.h.
const XATTR_MAX: usize = 65536;
/// Overlayfs keeps its own records there. Seen in a root, they are not the image's but of a layer's store, and the guest's
/// overlayfs would take them as orders. Whoever merges layers reads them.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// The label that the *host's* policy gave the file.
const SELINUX: &[u8] = b"security.selinux";

/// Reads attributes, with the buffers that takes.
pub(super) struct Reader {
    path: Vec<u8>,
    directory: usize,
    list: Vec<u8>,
    value: Vec<u8>,
    /// Give overlayfs' own records too.
    overlay: bool,
}

impl Reader {
    pub(super) fn new(overlay: bool) -> Self {
        let buffer = || vec![0; XATTR_MAX];
        Self { path: Vec::new(), directory: 0, list: buffer(), value: buffer(), overlay }
    }

    /// From here on, names are those in `directory`, which must stay open.
    pub(super) fn enter(&mut self, directory: BorrowedFd<'_>) {
        self.path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        self.directory = self.path.len();
    }

    /// The attributes of `name` in the directory that was entered.
    pub(super) fn read(&mut self, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
        self.path.truncate(self.directory);
        self.path.extend_from_slice(name);
        let listed = llistxattr(self.path.as_slice(), &mut self.list[..]);
        self.values(listed)
    }

    /// The attributes of the directory that was entered.
    pub(super) fn read_entered(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
        self.path.truncate(self.directory);
        self.path.push(b'.');
        let listed = flistxattr(directory, &mut self.list[..]);
        self.values(listed)
    }

    fn values(&mut self, listed: Result<usize, Errno>) -> Result<Vec<Xattr>, Errno> {
        let length = match listed {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            other => other?,
        };
        let mut xattrs = Vec::new();
        for name in self.list[..length].split(|byte| *byte == 0) {
            if name.is_empty() || (!self.overlay && name.starts_with(OVERLAY)) || name == SELINUX {
                continue;
            }
            match lgetxattr(self.path.as_slice(), name, &mut self.value[..]) {
                Ok(size) => xattrs.push(Xattr { name: name.to_vec(), value: self.value[..size].to_vec() }),
                // Removed since it was listed, or listed but not to be had (some network file systems).
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }
}
