//! The image of who names none.

/// Environment variable that names another one.
const VARIABLE: &str = "MICROSANDBOX_IMAGE";
/// Small, with a shell, and on the registry that everybody reaches.
const IMAGE: &str = "docker.io/library/debian:stable-slim";

/// Its reference.
pub fn image() -> String {
    std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| IMAGE.to_owned())
}
