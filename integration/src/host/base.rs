//! Debian's base image, as a registry would have it: what the product's own image is built on where no registry is reached.
//!
//! Enters: an empty folder. Leaves: `base.tar` in it, a minimal Debian of the virtual host's release, with the packages that the
//! product's image installs otherwise, since the virtual host reaches no package source either.

use std::path::Path;

use super::debian::{self, DebianError};

/// What the Dockerfile looks for before it asks a package source; and Python, so that the archive is also an image that has it.
pub const PACKAGES: &str = "ca-certificates,passt,python3,tzdata,virtiofsd";
/// The file.
pub const ARCHIVE: &str = "base.tar";

/// Builds it; takes about a minute.
pub fn build(folder: &Path) -> Result<(), DebianError> {
    let options = std::iter::once("--variant=apt".into()).chain(debian::without_documentation());
    debian::bootstrap(folder, PACKAGES, &folder.join(ARCHIVE), options)
}
