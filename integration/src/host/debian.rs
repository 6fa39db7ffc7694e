//! Packages of Debian, from the machine's own package sources: what each image here is made of.
//!
//! Enters: a folder, packages, and what mmdebstrap is to do with them. Leaves: its log, and what the target or the hooks have
//! of it. Must never know what the packages are for.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::last_lines;
use super::sources::{SourcesError, sources};

/// The release: Docker 26.1, containerd 1.7, podman 5.4, Linux 6.12.
pub const SUITE: &str = "trixie";

/// Why there are no packages, or nothing that is made of them.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
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

/// For `map_err`: an error at `path`.
pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> DebianError {
    let path = path.to_owned();
    move |source| DebianError::File { path, source }
}

/// Puts programs, hooks among them, into `folder`.
pub(crate) fn scripts(folder: &Path, all: &[(&str, &str)]) -> Result<(), DebianError> {
    // The hooks may run as another user of a user namespace.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(file(folder))?;
    for (name, text) in all {
        let path = folder.join(name);
        fs::write(&path, text).map_err(file(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(file(&path))?;
    }
    Ok(())
}

/// What leaves a system without manuals and translations.
pub(crate) fn without_documentation() -> [String; 3] {
    ["man", "locale", "doc"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*"))
}

/// A hook: the script of that name in the folder, which is `$MSB_OUT` to it, is given the tree.
pub(crate) fn hook(when: &str, script: &str) -> String {
    format!("--{when}-hook=\"$MSB_OUT/{script}\" \"$1\"")
}

/// Fetches `packages`, one a line or with commas between, and gives the tree to `target` in the format that its name tells.
/// `options` are mmdebstrap's.
pub(crate) fn bootstrap(
    folder: &Path,
    packages: &str,
    target: &Path,
    options: impl IntoIterator<Item = String>,
) -> Result<(), DebianError> {
    let list = package_sources(folder)?;
    let packages = packages.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(",");
    let log = folder.join("mmdebstrap.log");
    let output = File::create(&log).map_err(file(&log))?;
    let errors = output.try_clone().map_err(file(&log))?;
    let status = Command::new("mmdebstrap")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args(options)
        .arg(format!("--include={packages}"))
        .arg(SUITE)
        .arg(target)
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
    Err(DebianError::Mmdebstrap { tail: last_lines(&log, 15), log })
}

/// A list of this machine's own package sources, with the virtual host's release in place of theirs.
fn package_sources(folder: &Path) -> Result<PathBuf, DebianError> {
    let release = Path::new("/etc/os-release");
    let codename = codename(&fs::read_to_string(release).map_err(file(release))?);
    let list = folder.join("sources.list");
    fs::write(&list, sources(Path::new("/etc/apt"), &codename, SUITE)?).map_err(file(&list))?;
    Ok(list)
}

/// VERSION_CODENAME of os-release(5), or nothing.
fn codename(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    value.unwrap_or_default().trim_matches('"').to_owned()
}
