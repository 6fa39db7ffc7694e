//! Debian's base image, as a registry would have it: what the product's own image is built on where no registry is reached.
//!
//! Enters: an empty folder. Leaves: `base.tar` in it, a minimal Debian of the virtual host's release, with the packages that the
//! product's image installs otherwise, since the virtual host reaches no package source either.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use super::image::{self, ImageError, SUITE};

/// What the Dockerfile looks for before it asks a package source; and Python, so that the archive is also an image that has it.
pub const PACKAGES: &str = "ca-certificates,passt,python3,tzdata,virtiofsd";
/// The file.
pub const ARCHIVE: &str = "base.tar";

/// Builds it; takes about a minute.
pub fn build(folder: &Path) -> Result<(), ImageError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { path, source }
    };
    let list = image::package_sources(folder)?;
    let log = folder.join("mmdebstrap.log");
    let output = File::create(&log).map_err(file(&log))?;
    let errors = output.try_clone().map_err(file(&log))?;
    let status = Command::new("mmdebstrap")
        .args(["--variant=apt", "--aptopt=APT::Install-Recommends \"false\""])
        .args(["man", "locale", "doc"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(format!("--include={PACKAGES}"))
        .arg(SUITE)
        .arg(folder.join(ARCHIVE))
        .arg(&list)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(file(Path::new("mmdebstrap")))?;
    if status.success() { Ok(()) } else { Err(image::failed(log)) }
}
