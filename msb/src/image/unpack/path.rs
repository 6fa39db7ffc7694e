//! Names of entries, before anything is done with them.
//!
//! In: bytes of an archive. Out: a path relative to the root, of ordinary names only. `..` is refused, not resolved: no image
//! needs it in the name of an entry, and what it means behind a link is asking for trouble.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::UnpackError;
use super::limits;

/// OCI image-spec, layer.md, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";
/// OCI image-spec, layer.md, "Opaque Whiteout".
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS had for itself; means nothing to anybody.
const AUFS: &[u8] = b".wh..wh.";

/// Where an entry goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The root directory itself.
    Root,
    /// `name` in the directory that `parent` leads to.
    Named { parent: PathBuf, name: Vec<u8> },
    /// `name`, which layers below may have, is gone.
    Whiteout { parent: PathBuf, name: Vec<u8> },
    /// Nothing shows of what layers below have in it.
    Opaque { directory: PathBuf },
    /// Nowhere.
    Ignored,
}

/// Reads the name of an entry.
pub(super) fn place(raw: &[u8]) -> Result<Place, UnpackError> {
    let names = names(raw)?;
    let Some((last, parents)) = names.split_last() else { return Ok(Place::Root) };
    if names.iter().any(|name| name.starts_with(AUFS) && *name != OPAQUE) {
        return Ok(Place::Ignored);
    }
    if parents.iter().any(|name| name.starts_with(WHITEOUT)) {
        return Err(bad(raw, "has a whiteout for a directory"));
    }
    let parent: PathBuf = parents.iter().map(|name| OsStr::from_bytes(name)).collect();
    if *last == OPAQUE {
        return Ok(Place::Opaque { directory: parent });
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Place::Named { parent, name: last.to_vec() }),
        Some(b"" | b"." | b"..") => Err(bad(raw, "is a whiteout of nothing")),
        Some(name) => Ok(Place::Whiteout { parent, name: name.to_vec() }),
    }
}

/// Reads what a hard link leads to: the parents and the name.
pub(super) fn target(raw: &[u8]) -> Result<(PathBuf, Vec<u8>), UnpackError> {
    match place(raw)? {
        Place::Named { parent, name } => Ok((parent, name)),
        _ => Err(bad(raw, "is nothing that a hard link can lead to")),
    }
}

/// What a symbolic link holds: anything that the kernel takes.
pub(super) fn link(raw: &[u8]) -> Result<&OsStr, UnpackError> {
    if raw.is_empty() || raw.len() > limits::PATH || raw.contains(&0) {
        return Err(bad(raw, "is nothing that a link can lead to"));
    }
    Ok(OsStr::from_bytes(raw))
}

fn names(raw: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    if raw.len() > limits::PATH {
        return Err(bad(raw, "is too long"));
    }
    if raw.contains(&0) {
        return Err(bad(raw, "has a NUL in it"));
    }
    let mut names = Vec::new();
    for name in raw.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return Err(bad(raw, "climbs out of a directory: refused"));
        }
        if name.len() > limits::NAME {
            return Err(bad(raw, "has a name that is too long"));
        }
        names.push(name);
    }
    if names.len() > limits::DEPTH {
        return Err(bad(raw, "is too deep"));
    }
    Ok(names)
}

pub(super) fn bad(raw: &[u8], what: &'static str) -> UnpackError {
    let shown = &raw[..raw.len().min(limits::NAME)];
    UnpackError::Path { path: Path::new(OsStr::from_bytes(shown)).to_owned(), what }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    fn named(parent: &str, name: &str) -> Place {
        Place::Named { parent: parent.into(), name: name.into() }
    }

    #[test]
    fn ordinary_names() {
        for (raw, parent, name) in
            [("a", "", "a"), ("./a/b", "a", "b"), ("/etc//passwd/", "etc", "passwd"), ("a/..b", "a", "..b")]
        {
            assert_eq!(place(raw.as_bytes()).unwrap(), named(parent, name), "{raw}");
        }
        for root in ["", ".", "./", "/", "//."] {
            assert_eq!(place(root.as_bytes()).unwrap(), Place::Root);
        }
    }

    #[test]
    fn whiteouts() {
        assert_eq!(place(b"d/.wh.x").unwrap(), Place::Whiteout { parent: "d".into(), name: b"x".to_vec() });
        assert_eq!(place(b"d/.wh..wh..opq").unwrap(), Place::Opaque { directory: "d".into() });
        assert_eq!(place(b".wh..wh..opq").unwrap(), Place::Opaque { directory: "".into() });
        assert_eq!(place(b".wh..wh.plnk/1.2").unwrap(), Place::Ignored);
        for bad in [".wh.", "d/.wh..", "d/.wh...", ".wh.d/x", ".wh.d/.wh.x"] {
            place(bad.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn names_that_lead_out_or_that_nobody_can_have() {
        let long = "x".repeat(256);
        let deep = "a/".repeat(600);
        for bad in ["..", "../x", "a/../b", "/..", "a/..", "a\0b", &long, &deep, &"a/".repeat(5000)] {
            place(bad.as_bytes()).unwrap_err();
            target(bad.as_bytes()).unwrap_err();
        }
        target(b"").unwrap_err();
        target(b".wh.x").unwrap_err();
        link(b"").unwrap_err();
        link(b"../../../etc").unwrap();
    }

    proptest! {
        #[test]
        fn no_name_leads_out(raw in proptest::collection::vec(prop_oneof![
            Just(b'/'), Just(b'.'), Just(b'a'), Just(b'w'), Just(b'h'), any::<u8>()], 0..40)) {
            match place(&raw) {
                Ok(Place::Named { parent, name } | Place::Whiteout { parent, name }) => {
                    prop_assert!(!name.contains(&b'/') && !matches!(&*name, b"" | b"." | b".."));
                    prop_assert!(parent.components().all(|part| matches!(part, Component::Normal(_))));
                }
                Ok(Place::Opaque { directory }) => {
                    prop_assert!(directory.components().all(|part| matches!(part, Component::Normal(_))));
                }
                Ok(Place::Root | Place::Ignored) | Err(_) => {}
            }
        }
    }
}
