//! The Arm host's disk: packages of Debian 13 for arm64, unpacked, with a kernel that has KVM and an init of one page.
//!
//! Enters: an empty folder. Leaves: `vmlinuz`, `initrd.img` and `root.img` in it, and mmdebstrap's log.
//! Must never know what is done with the host. Nothing of it runs here: no package is set up, and what a script of one would
//! have made and is needed, `customize.sh` makes.

use std::path::Path;

use crate::host::debian::{self, DebianError, SUITE};

/// What is unpacked, one package a line.
pub const PACKAGES: &str = include_str!("files/host.txt");
/// Given the tree; writes kernel, initrd and disk.
const CUSTOMIZE: &str = include_str!("files/customize.sh");
/// The first program of the initrd: finds the disk.
const FIND: &str = include_str!("files/find.sh");
/// The first program of the disk.
const INIT: &str = include_str!("files/init.sh");

/// What the image depends on, for its cache.
pub fn inputs() -> [&'static str; 5] {
    [SUITE, PACKAGES, CUSTOMIZE, FIND, INIT]
}

/// Builds the image in `folder`; takes about two minutes.
pub fn build(folder: &Path) -> Result<(), DebianError> {
    debian::scripts(folder, &[("customize.sh", CUSTOMIZE), ("find.sh", FIND), ("init.sh", INIT)])?;
    let options = super::unpacked("arm64").into_iter().chain([debian::hook("extract", "customize.sh")]);
    debian::bootstrap(folder, PACKAGES, Path::new("/dev/null"), options)
}
