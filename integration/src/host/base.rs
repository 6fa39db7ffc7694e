//! Images as a registry would have them, where none is reached.
//!
//! Enters: an empty folder. Leaves an archive in it: `base.tar`, what the product's own image is built on, a minimal Debian of
//! the virtual host's release with the packages that the product's image installs otherwise, since the virtual host reaches no
//! package source either; or `node.tar`, Debian's Node and what that needs.

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

/// What an image with Node is made of, and a shell for it to call.
pub const NODE_PACKAGES: &str = "nodejs,dash";
/// The file.
pub const NODE_ARCHIVE: &str = "node.tar";

/// Where everything is in /usr, as Debian has it: its programs' loader is looked for beside it.
pub const NODE_LINKS: &str =
    r#"for name in bin lib lib64 sbin; do mkdir -p "$1/usr/$name" && ln -s "usr/$name" "$1/$name"; done"#;

/// Builds that one. Its packages are unpacked and not set up, which takes seconds.
pub fn build_node(folder: &Path) -> Result<(), DebianError> {
    let own = ["--variant=extract".into(), format!("--setup-hook={NODE_LINKS}")];
    let less = "--dpkgopt=path-exclude=/usr/lib/*/gconv/*".into();
    let options = own.into_iter().chain(debian::without_documentation()).chain([less]);
    debian::bootstrap(folder, NODE_PACKAGES, &folder.join(NODE_ARCHIVE), options)
}
