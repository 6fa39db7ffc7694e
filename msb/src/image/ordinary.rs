//! Images that the original made for itself, with a server inside. Ours reaches into any image, so an ordinary one of the
//! same language stands for each.

use std::borrow::Cow;

/// Environment variable with what is put in front of their names, with its slash; otherwise they are Docker's own.
const REGISTRY: &str = "MICROSANDBOX_REGISTRY";
/// Where Docker has them.
const USUAL: &str = "docker.io/library/";

/// The image that is meant by `reference`.
#[must_use]
pub fn ordinary(reference: &str) -> Cow<'_, str> {
    let given = std::env::var(REGISTRY).ok().filter(|prefix| !prefix.is_empty());
    of(given.as_deref().unwrap_or(USUAL), reference)
}

fn of<'reference>(prefix: &str, reference: &'reference str) -> Cow<'reference, str> {
    let bare = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let bare = bare.strip_suffix(":latest").unwrap_or(bare);
    let name = match bare {
        "microsandbox/python" | "appcypher/msb-python" => "python:3.13-slim",
        "microsandbox/node" | "appcypher/msb-nodejs" => "node:22-slim",
        _ => return reference.into(),
    };
    format!("{prefix}{name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_original_alone_are_replaced() {
        let usual = |reference| of(USUAL, reference).into_owned();
        assert_eq!(usual("microsandbox/python"), "docker.io/library/python:3.13-slim");
        assert_eq!(usual("docker.io/appcypher/msb-nodejs:latest"), "docker.io/library/node:22-slim");
        assert_eq!(of("mirror.example/hub/", "microsandbox/node"), "mirror.example/hub/node:22-slim");
        for other in ["python", "alpine:3", "quay.io/microsandbox/python", "microsandbox/python:mine"] {
            assert_eq!(usual(other), other);
        }
    }
}
