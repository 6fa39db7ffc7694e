//! Whether an image has a program, as far as its layers tell without being run.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::Image;

/// Of an image that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Image {
    /// Whether something of that name is in a directory of its PATH. No link is followed: the image is nobody's word.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        if name.is_empty() || name.contains(['/', '\0']) {
            return false;
        }
        let env = self.config.config().as_ref().and_then(|config| config.env().clone()).unwrap_or_default();
        let own = env.iter().find_map(|variable| variable.strip_prefix("PATH="));
        own.unwrap_or(PATH).split(':').any(|directory| self.has(&Path::new(directory).join(name)))
    }

    /// The uppermost layer that has something there counts.
    fn has(&self, path: &Path) -> bool {
        let Ok(path) = path.strip_prefix("/") else { return false };
        let found = self.layers.iter().rev().find_map(|layer| {
            // A directory that is a link is found at its other name.
            let mut directory = layer.clone();
            for part in path.parent()? {
                directory.push(part);
                if !fs::symlink_metadata(&directory).ok()?.is_dir() {
                    return None;
                }
            }
            fs::symlink_metadata(layer.join(path)).ok()
        });
        // A character device 0/0 is how overlayfs says that something is gone (kernel, `filesystems/overlayfs.rst`).
        found.is_some_and(|found| {
            let gone = found.file_type().is_char_device() && found.rdev() == 0;
            !found.is_dir() && !gone
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{Digest, ImageConfiguration};
    use super::*;

    #[test]
    fn programs_are_found_without_following_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let layer = |name: &str| directory.path().join(name);
        fs::create_dir_all(layer("low/usr/bin")).unwrap();
        fs::create_dir_all(layer("high/usr/sbin/inner")).unwrap();
        fs::write(layer("low/usr/bin/ls"), "").unwrap();
        symlink("usr/bin", layer("low/bin")).unwrap();
        // Out of the image: never looked into.
        symlink("/usr/bin", layer("low/sbin")).unwrap();
        let digest = Digest::of(b"");
        let image = Image {
            reference: "i".into(),
            digest,
            id: digest,
            config: ImageConfiguration::default(),
            layers: vec![layer("low"), layer("high")],
        };
        assert!(image.has_program("ls"));
        for not in ["env", "inner", "", "/usr/bin/ls", "../bin/ls", "..", "nothing"] {
            assert!(!image.has_program(not), "{not}");
        }
    }
}
