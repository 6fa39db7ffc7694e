//! The extended attributes of a file which must not be opened.
//!
//! In: an open directory and a name in it. Out: the attributes that mean something inside a guest, sorted by name.
//! It must never follow a symbolic link. There is no `llistxattrat` before Linux 6.13, so the name is reached through the
//! directory's descriptor in `/proc/self/fd`: only the last component is the image's, and these calls do not follow it. A
//! thread that has a working directory of its own goes there instead, which takes a third of the time.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::{OwnDirectory, Xattr};

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of linux/limits.h.
const XATTR_MAX: usize = 65536;
/// What is tried first: the kernel makes and clears a buffer as large as the one it is given, in each call, and most files
/// have no attributes or few short ones.
const XATTR_FEW: usize = 256;
/// Overlayfs keeps its own records there. Seen in a root, they are not the image's but of a layer's store, and the guest's
/// overlayfs would take them as orders. Whoever merges layers reads them.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// The label that the *host's* policy gave the file.
const SELINUX: &[u8] = b"security.selinux";

/// Reads attributes, with the buffers that takes.
pub(super) struct Reader<'a> {
    own: Option<&'a OwnDirectory>,
    path: Vec<u8>,
    directory: usize,
    list: Vec<u8>,
    value: Vec<u8>,
    /// Give overlayfs' own records too.
    overlay: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(overlay: bool, own: Option<&'a OwnDirectory>) -> Self {
        let buffer = || vec![0; XATTR_MAX];
        Self { own, path: Vec::new(), directory: 0, list: buffer(), value: buffer(), overlay }
    }

    /// From here on, names are those in `directory`, which must stay open.
    pub(super) fn enter(&mut self, directory: BorrowedFd<'_>) {
        let entered = self.own.is_some_and(|own| own.enter(directory).is_ok());
        let path = if entered { String::new() } else { format!("/proc/self/fd/{}/", directory.as_raw_fd()) };
        self.path = path.into_bytes();
        self.directory = self.path.len();
    }

    /// The attributes of `name` in the directory that was entered.
    pub(super) fn read(&mut self, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
        self.path.truncate(self.directory);
        self.path.extend_from_slice(name);
        let Self { path, list, .. } = self;
        let listed = sized(list, |list| llistxattr(path.as_slice(), list));
        self.values(listed)
    }

    /// The attributes of the directory that was entered.
    pub(super) fn read_entered(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
        self.path.truncate(self.directory);
        self.path.push(b'.');
        let listed = sized(&mut self.list, |list| flistxattr(directory, list));
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
            match sized(&mut self.value, |value| lgetxattr(self.path.as_slice(), name, value)) {
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

/// Calls with a small part of `buffer`, and with all of it if that was too small.
fn sized(buffer: &mut [u8], mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    match call(&mut buffer[..XATTR_FEW]) {
        Err(Errno::RANGE) => call(buffer),
        other => other,
    }
}
