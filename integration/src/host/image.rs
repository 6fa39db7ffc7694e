//! The virtual host's disk: Debian 13 from the machine's own package sources, as one ext4 image.
//!
//! Enters: an empty folder. Leaves: `vmlinuz`, `initrd.img` and `root.img` in it, QEMU of the same release with its
//! libraries in `qemu`, and mmdebstrap's log.
//! Must never know what is done with the host.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::sources::{SourcesError, sources};

/// The Debian release that the virtual host runs: Docker 26.1, containerd 1.7, podman 5.4, Linux 6.12.
pub const SUITE: &str = "trixie";
/// The folder of the emulator within the image's.
pub const EMULATOR: &str = "qemu";
/// What is installed, one package a line.
pub const PACKAGES: &str = include_str!("files/packages.txt");
/// Run before the packages are installed.
pub const SETUP: &str = include_str!("files/setup.sh");
/// Run after the packages are installed; writes the image.
pub const CUSTOMIZE: &str = include_str!("files/customize.sh");

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No package sources.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A file of ours.
    #[error("{path} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It failed.
    #[error("mmdebstrap failed; the end of its log {log}:\n{tail}")]
    Mmdebstrap {
        /// The whole log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
}

/// What the image depends on, for its cache.
pub fn inputs() -> [&'static str; 4] {
    [SUITE, PACKAGES, SETUP, CUSTOMIZE]
}

/// Builds the image in `folder`; takes about two minutes and 2 GB.
pub fn build(folder: &Path) -> Result<(), ImageError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { path, source }
    };
    // The hooks may run as another user of a user namespace.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(file(folder))?;
    let list = package_sources(folder)?;
    for (name, text) in [("setup.sh", SETUP), ("customize.sh", CUSTOMIZE)] {
        let path = folder.join(name);
        let mut script = File::create(&path).map_err(file(&path))?;
        script.write_all(text.as_bytes()).map_err(file(&path))?;
        script.set_permissions(fs::Permissions::from_mode(0o755)).map_err(file(&path))?;
    }
    let packages = PACKAGES.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(",");
    let log = folder.join("mmdebstrap.log");
    let output = File::create(&log).map_err(file(&log))?;
    let errors = output.try_clone().map_err(file(&log))?;
    let status = Command::new("mmdebstrap")
        .args(["--variant=apt", "--format=null", "--aptopt=APT::Install-Recommends \"false\""])
        .args(["man", "locale", "doc"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg("--setup-hook=\"$MSB_OUT/setup.sh\" \"$1\"")
        .arg("--customize-hook=\"$MSB_OUT/customize.sh\" \"$1\"")
        .arg(format!("--include={packages}"))
        .args([SUITE, "/dev/null"])
        .arg(&list)
        .env("MSB_OUT", folder)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(file(Path::new("mmdebstrap")))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(log))
}

/// A list of this machine's own package sources, with the virtual host's release in place of theirs.
pub(crate) fn package_sources(folder: &Path) -> Result<PathBuf, ImageError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { path, source }
    };
    let release = Path::new("/etc/os-release");
    let codename = codename(&fs::read_to_string(release).map_err(file(release))?);
    let list = folder.join("sources.list");
    fs::write(&list, sources(Path::new("/etc/apt"), &codename, SUITE)?).map_err(file(&list))?;
    Ok(list)
}

/// With the end of the log.
pub(crate) fn failed(log: PathBuf) -> ImageError {
    let text = fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(15).collect();
    ImageError::Mmdebstrap { tail: last.into_iter().rev().collect::<Vec<_>>().join("\n"), log }
}

/// VERSION_CODENAME of os-release(5), or nothing.
fn codename(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    value.unwrap_or_default().trim_matches('"').to_owned()
}
