//! Are these the layers of this overlay?
//!
//! In: where the overlay is mounted, and directories. Out: yes, or what differs. The names in the mount's root must be those
//! that the layers give it: other layers under the same names (an idmapped copy that is gone, a store of another mount
//! namespace, a wrong guess at a relative path) do not pass. It must never look below the roots.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Why;

/// Compares `mount` with `layers`, the lowest first.
pub(super) fn verify<'a>(mount: &Path, layers: impl Iterator<Item = &'a PathBuf>) -> Result<(), Why> {
    let mut merged = BTreeSet::new();
    for layer in layers {
        add(layer, &mut merged).map_err(|_| Why::Missing(layer.clone()))?;
    }
    let mut shown = BTreeSet::new();
    add(mount, &mut shown).map_err(|_| Why::Missing(mount.to_owned()))?;
    match merged.symmetric_difference(&shown).next() {
        Some(name) => Err(Why::Differs(PathBuf::from(name))),
        None => Ok(()),
    }
}

/// Lays the names in `directory` over `names`.
fn add(directory: &Path, names: &mut BTreeSet<OsString>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let whiteout = entry.file_type()?.is_char_device() && entry.metadata()?.rdev() == 0;
        if whiteout {
            names.remove(&entry.file_name());
        } else {
            names.insert(entry.file_name());
        }
    }
    Ok(())
}
