//! The image of who names none, and where it works.

use std::path::PathBuf;

/// Environment variable that names another one.
const VARIABLE: &str = "MICROSANDBOX_IMAGE";
/// Small, with a shell, and on the registry that everybody reaches.
const IMAGE: &str = "docker.io/library/debian:stable-slim";

/// Environment variable with a directory of the host in which shells and lines of the default image work, at the same path.
const WORKSPACE: &str = "MICROSANDBOX_WORKSPACE";

/// That directory.
pub fn workspace() -> Option<PathBuf> {
    std::env::var_os(WORKSPACE).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Its reference.
pub fn image() -> String {
    std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| IMAGE.to_owned())
}
