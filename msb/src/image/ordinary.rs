//! Images that the original made for itself, with a server inside. Ours reaches into any image, so an ordinary one of the
//! same language stands for each.

/// The image that is meant by `reference`.
#[must_use]
pub fn ordinary(reference: &str) -> &str {
    let bare = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let bare = bare.strip_suffix(":latest").unwrap_or(bare);
    match bare {
        "microsandbox/python" | "appcypher/msb-python" => "docker.io/library/python:3.13-slim",
        "microsandbox/node" | "appcypher/msb-nodejs" => "docker.io/library/node:22-slim",
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::ordinary;

    #[test]
    fn those_of_the_original_alone_are_replaced() {
        assert_eq!(ordinary("microsandbox/python"), "docker.io/library/python:3.13-slim");
        assert_eq!(ordinary("docker.io/appcypher/msb-nodejs:latest"), "docker.io/library/node:22-slim");
        for other in ["python", "alpine:3", "quay.io/microsandbox/python", "microsandbox/python:mine"] {
            assert_eq!(ordinary(other), other);
        }
    }
}
