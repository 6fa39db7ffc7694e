//! What there is to bring: the upper directory's names, with everything under them read once and found to be good.
//!
//! In: a scratch disk. Out: a tree of names; no data, no attributes. Nothing on the host changes before this is done, so a
//! broken disk changes nothing at all. It must never know the host's side.

use std::collections::HashSet;

use crate::ext4::reader::{Budget, Inode, Kind, Scratch};
use crate::tree::{Device, PATH_MAX, Xattr};

use super::error::WritebackError;
use super::names::{Full, Names, ROOT};
use super::{Limits, UPPER};

/// What is under a name in the upper directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A directory. If opaque, nothing that was below it shows through.
    Directory {
        /// Of its own, or because a directory above it is.
        opaque: bool,
    },
    /// Nothing is to be there any more.
    Whiteout,
    /// Anything else.
    File,
}

/// An inode on the scratch disk, and what it is to overlayfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: u32,
    pub(super) what: What,
}

/// Reads the upper directory; none if the guest has not come so far as to make it.
///
/// # Errors
/// [`WritebackError`], of the guest or of reading.
pub(super) fn read(scratch: &Scratch, limits: &Limits) -> Result<Option<Names<Entry>>, WritebackError> {
    let mut budget = scratch.budget();
    let mut upper = None;
    scratch.names(&scratch.root()?, &mut budget, &mut |name: &[u8], inode| {
        if name == UPPER {
            upper = Some(inode);
        }
        Ok::<(), WritebackError>(())
    })?;
    let Some(upper) = upper else { return Ok(None) };
    let root = Entry { inode: upper, what: What::Directory { opaque: false } };
    let mut plan = Plan {
        scratch,
        limits,
        names: Names::new(root),
        paths: vec![(0, 0)],
        directories: HashSet::from([upper]),
        budget,
    };
    let mut next = ROOT;
    while next < plan.names.len() {
        if let What::Directory { opaque } = plan.names.at(next).value.what {
            plan.directory(next, opaque)?;
        }
        next += 1;
    }
    Ok(Some(plan.names))
}

struct Plan<'a> {
    scratch: &'a Scratch,
    limits: &'a Limits,
    names: Names<Entry>,
    /// By number: bytes of the path, and how deep it is.
    paths: Vec<(usize, usize)>,
    /// Those seen: a second name for one would be a loop.
    directories: HashSet<u32>,
    budget: Budget,
}

impl Plan<'_> {
    /// Adds what is in a directory.
    fn directory(&mut self, number: u32, opaque: bool) -> Result<(), WritebackError> {
        let inode = self.scratch.inode(self.names.at(number).value.inode)?;
        let room = self.limits.names.saturating_sub(usize::try_from(self.names.len()).unwrap_or(usize::MAX));
        let limit = WritebackError::Limit { what: "names", limit: self.limits.names };
        let mut found: Vec<(Vec<u8>, u32)> = Vec::new();
        let mut full = false;
        self.scratch.names(&inode, &mut self.budget, &mut |name: &[u8], inode| {
            full |= found.len() >= room;
            if !full {
                found.push((name.to_vec(), inode));
            }
            Ok::<(), WritebackError>(())
        })?;
        if full {
            return Err(limit);
        }
        found.sort_unstable();
        let (length, depth) = self.paths[usize::try_from(number).expect("32 bits fit")];
        for (name, child) in found {
            let value = Entry { inode: child, what: self.judge(child, opaque, number, &name)? };
            let path = (length + name.len() + 1, depth + 1);
            if path.0 > PATH_MAX {
                return Err(WritebackError::Limit { what: "bytes in a path", limit: PATH_MAX });
            }
            if path.1 > self.limits.depth {
                return Err(WritebackError::Limit {
                    what: "directories in a path",
                    limit: self.limits.depth,
                });
            }
            if self.names.bytes() + name.len() > self.limits.name_bytes {
                return Err(WritebackError::Limit { what: "bytes of names", limit: self.limits.name_bytes });
            }
            self.names.add(number, &name, value).map_err(|full| match full {
                Full::Names => WritebackError::Limit { what: "names", limit: self.limits.names },
                Full::Order | Full::Unlawful => {
                    WritebackError::Tree { inode: inode.number, what: "it has a name twice" }
                }
            })?;
            self.paths.push(path);
        }
        Ok(())
    }

    /// What an inode is, after all of it was read that will be needed.
    fn judge(&mut self, number: u32, opaque: bool, parent: u32, name: &[u8]) -> Result<What, WritebackError> {
        let inode = self.scratch.inode(number)?;
        if is_whiteout(&inode) {
            return Ok(What::Whiteout);
        }
        let attributes = self.scratch.attributes(&inode)?;
        let own = check_records(&attributes)
            .map_err(|record| WritebackError::Record { path: self.path(parent, name), record })?;
        match inode.kind {
            Kind::Directory => {
                if !self.directories.insert(number) {
                    return Err(WritebackError::Tree {
                        inode: number,
                        what: "a directory is in two directories",
                    });
                }
                return Ok(What::Directory { opaque: opaque || own });
            }
            Kind::Regular if inode.links == 1 || self.directories.insert(number) => {
                self.scratch.extents(&inode, &mut self.budget, &mut |_| Ok::<(), WritebackError>(()))?;
            }
            Kind::Symlink => {
                self.scratch.target(&inode)?;
            }
            _ => {}
        }
        Ok(What::File)
    }

    fn path(&self, parent: u32, name: &[u8]) -> std::path::PathBuf {
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
        self.names.path(parent).join(name)
    }
}

/// Overlayfs' mark for a name that is gone (`Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories").
fn is_whiteout(inode: &Inode) -> bool {
    inode.kind == Kind::CharacterDevice(Device { major: 0, minor: 0 })
}

/// Whether overlayfs says that nothing shows through; the record's name if it says something that we do not know.
fn check_records(attributes: &[Xattr]) -> Result<bool, &'static str> {
    let mut opaque = false;
    for attribute in attributes {
        match (&*attribute.name, &*attribute.value) {
            (b"trusted.overlay.opaque", b"y") => opaque = true,
            // "x" announces whiteouts of another kind, which no kernel makes by itself.
            (b"trusted.overlay.opaque", _) => return Err("trusted.overlay.opaque"),
            (b"trusted.overlay.redirect", _) => return Err("trusted.overlay.redirect"),
            (b"trusted.overlay.metacopy", _) => return Err("trusted.overlay.metacopy"),
            (b"trusted.overlay.whiteout", _) => return Err("trusted.overlay.whiteout"),
            _ => {}
        }
    }
    Ok(opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_overlayfs_are_known() {
        let one = |name: &str, value: &[u8]| {
            check_records(&[Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }])
        };
        assert_eq!(one("trusted.overlay.opaque", b"y"), Ok(true));
        assert!(one("trusted.overlay.opaque", b"x").is_err());
        assert!(one("trusted.overlay.redirect", b"/elsewhere").is_err());
        assert!(one("trusted.overlay.metacopy", b"").is_err());
        assert_eq!(one("trusted.overlay.origin", b"\0\xfb"), Ok(false));
        assert_eq!(one("trusted.overlay.overlay.opaque", b"y"), Ok(false));
    }
}
