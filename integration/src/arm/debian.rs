//! Packages of Debian, unpacked and not set up: nothing of them runs, so that they may be of any processor.
//!
//! Enters: processors, packages, and what mmdebstrap is to do with the tree. Leaves: a log, and what the hooks or the target
//! have of it. Must never know what the tree is for.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host::image::{ImageError, SUITE, failed, package_sources};

/// Unpacks `packages`, one a line, for `architectures` as Debian names them, and gives the tree to `target` in the format that
/// its name tells. `hook`, a script in `folder`, is given the tree before; what it leaves goes to `$MSB_OUT`, the folder.
pub(super) fn unpack(
    folder: &Path,
    architectures: &str,
    packages: &str,
    hook: Option<&str>,
    target: &Path,
) -> Result<(), ImageError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::File { path, source }
    };
    // The hooks may run as another user of a user namespace.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).map_err(file(folder))?;
    let list = package_sources(folder)?;
    let packages = packages.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(",");
    let log = folder.join("mmdebstrap.log");
    let output = File::create(&log).map_err(file(&log))?;
    let errors = output.try_clone().map_err(file(&log))?;
    let status = Command::new("mmdebstrap")
        .args(["--variant=extract", "--aptopt=APT::Install-Recommends \"false\""])
        .arg(format!("--architectures={architectures}"))
        .arg(format!("--include={packages}"))
        .args(hook.map(|name| format!("--extract-hook=\"$MSB_OUT/{name}\" \"$1\"")))
        .arg(SUITE)
        .arg(target)
        .arg(&list)
        .env("MSB_OUT", folder)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(file(Path::new("mmdebstrap")))?;
    if status.success() { Ok(()) } else { Err(failed(log)) }
}
