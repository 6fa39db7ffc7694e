//! The virtual host's disk: Debian 13 from the machine's own package sources, as one ext4 image.
//!
//! Enters: an empty folder. Leaves: `vmlinuz`, `initrd.img` and `root.img` in it, QEMU of the same release with its
//! libraries in `qemu`, and mmdebstrap's log.
//! Must never know what is done with the host.

use std::path::Path;

use super::debian::{self, DebianError, SUITE};

/// The folder of the emulator within the image's.
pub const EMULATOR: &str = "qemu";
/// What is installed, one package a line.
pub const PACKAGES: &str = include_str!("files/packages.txt");
/// Run before the packages are installed.
pub const SETUP: &str = include_str!("files/setup.sh");
/// Run after the packages are installed; writes the image.
pub const CUSTOMIZE: &str = include_str!("files/customize.sh");

/// What the image depends on, for its cache.
pub fn inputs() -> [&'static str; 4] {
    [SUITE, PACKAGES, SETUP, CUSTOMIZE]
}

/// Builds the image in `folder`; takes about two minutes and 2 GB.
pub fn build(folder: &Path) -> Result<(), DebianError> {
    debian::scripts(folder, &[("setup.sh", SETUP), ("customize.sh", CUSTOMIZE)])?;
    let how = ["--variant=apt".into(), "--format=null".into()];
    let hooks = [debian::hook("setup", "setup.sh"), debian::hook("customize", "customize.sh")];
    let options = how.into_iter().chain(debian::without_documentation()).chain(hooks);
    debian::bootstrap(folder, PACKAGES, Path::new("/dev/null"), options)
}
