//! Names of images, as Docker reads them: `busybox` is `docker.io/library/busybox:latest`.

use oci_client::Reference;

use super::error::ImageError;

/// Reads a name. One with a digest has no tag: the digest says all.
pub(super) fn parse(given: &str) -> Result<Reference, ImageError> {
    let reference: Reference =
        given.parse().map_err(|_| ImageError::Reference { given: given.chars().take(300).collect() })?;
    Ok(match reference.digest() {
        Some(digest) => {
            Reference::with_digest(reference.registry().into(), reference.repository().into(), digest.into())
        }
        None => reference,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_are_dockers() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, whole) in [
            ("busybox", "docker.io/library/busybox:latest".into()),
            ("user/app:1", "docker.io/user/app:1".into()),
            ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest".into()),
            ("ghcr.io/x/y:v1", "ghcr.io/x/y:v1".into()),
            (&format!("busybox:1@{digest}"), format!("docker.io/library/busybox@{digest}")),
        ] {
            let read = parse(given).unwrap().whole();
            assert_eq!(read, whole);
            assert_eq!(parse(&read).unwrap().whole(), whole);
        }
        for bad in ["", "Busybox", "a//b", "a:", "a b", "../x", "a@sha256:1", "-x", &"a".repeat(300)] {
            parse(bad).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn a_whole_name_is_its_own(given in "[a-z0-9./:@-]{0,40}") {
            if let Ok(read) = parse(&given) {
                let whole = read.whole();
                prop_assert_eq!(parse(&whole).unwrap().whole(), whole);
            }
        }
    }
}
