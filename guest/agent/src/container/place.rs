//! Where a container's own things are in the guest: its mounts beneath one directory, and its cgroup. The first container of a
//! guest has them at the top.

use serde::{Deserialize, Serialize};

/// Of those of later containers.
const FURTHER: &str = "/run/containers";
/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// A container's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    base: String,
    cgroup: String,
}

impl Place {
    /// Of the first container.
    pub fn first() -> Self {
        Self { base: "/run".into(), cgroup: format!("{CGROUPS}/container") }
    }

    /// Of one that comes later; no two have the same number.
    pub fn further(number: u32) -> Self {
        Self { base: format!("{FURTHER}/{number}"), cgroup: format!("{CGROUPS}/container-{number}") }
    }

    /// The directories that must be made before anything is put there, outermost first.
    pub fn directories(&self) -> Vec<&str> {
        if self.base == "/run" { Vec::new() } else { vec![FURTHER, &self.base] }
    }

    /// Where the joined root is mounted.
    pub fn root(&self) -> String {
        format!("{}/root", self.base)
    }

    /// Where the disk is that takes what is written.
    pub fn upper(&self) -> String {
        format!("{}/upper", self.base)
    }

    /// Where a layer of the root is.
    pub fn layer(&self, index: usize) -> String {
        format!("{}/layer{index}", self.base)
    }

    /// Where the files of the host are that came by their content.
    pub fn files(&self) -> String {
        format!("{}/files", self.base)
    }

    /// Where other disks are mounted, each at the number of its mount.
    pub fn disks(&self) -> String {
        format!("{}/disks", self.base)
    }

    /// The cgroup's directory.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_are_the_same() {
        let (first, one, other) = (Place::first(), Place::further(1), Place::further(12));
        assert_eq!((first.root().as_str(), first.directories().len()), ("/run/root", 0));
        assert_eq!(other.directories(), ["/run/containers", "/run/containers/12"]);
        assert!(
            one.root() != other.root() && one.cgroup() != other.cgroup() && one.cgroup() != first.cgroup()
        );
    }
}
