//! A root as disks of a machine, and the names by which the guest finds them.

use msb_agent::protocol::Layer;

use super::DiskConfig;

/// Type of a file system on a layer's disk, as mount(8) names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// What we make.
    Erofs,
    /// What a snapshotter hands over.
    Ext4,
}

impl FileSystem {
    const ALL: [Self; 2] = [Self::Erofs, Self::Ext4];

    /// What mount(8) calls so, if the guest knows it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// As mount(8) names it.
    fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
        }
    }
}

/// The disks of one root. They are the machine's first, so that the guest's names for them are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDisks {
    /// Read-only, the uppermost first; at least one, and fewer than there are letters.
    pub layers: Vec<(DiskConfig, FileSystem)>,
    /// An ext4 for what is written.
    pub scratch: DiskConfig,
    /// Nobody can write to the root on the host: the container may not either, whatever its configuration says.
    pub read_only: bool,
}

impl RootDisks {
    /// In the order in which the machine gets them.
    #[must_use]
    pub fn disks(&self) -> Vec<DiskConfig> {
        self.layers.iter().map(|(disk, _)| disk).chain([&self.scratch]).cloned().collect()
    }

    /// The layers as the guest finds them.
    pub(super) fn guest_layers(&self) -> Vec<Layer> {
        let layer = |((_, filesystem), device): (&(DiskConfig, FileSystem), String)| Layer {
            device,
            filesystem: filesystem.name().into(),
        };
        self.layers.iter().zip(names()).map(layer).collect()
    }

    /// The disk for what is written, as the guest finds it.
    pub(super) fn guest_scratch(&self) -> String {
        guest_disk(self.layers.len()).unwrap_or_default()
    }
}

/// What the guest calls the machine's disk of that index, if it has a name for it.
#[must_use]
pub fn guest_disk(index: usize) -> Option<String> {
    names().nth(index)
}

/// What Linux calls virtio block devices, in the order of their discovery.
fn names() -> impl Iterator<Item = String> {
    ('a'..='z').map(|letter| format!("/dev/vd{letter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_finds_them_in_the_machines_order() {
        let disk = |name: &str| DiskConfig::Raw { path: name.into(), read_only: name != "scratch" };
        let root = RootDisks {
            layers: vec![(disk("top"), FileSystem::Erofs), (disk("chain"), FileSystem::Ext4)],
            scratch: disk("scratch"),
            read_only: false,
        };
        assert_eq!(root.disks(), [disk("top"), disk("chain"), disk("scratch")]);
        let layer =
            |device: &str, filesystem: &str| Layer { device: device.into(), filesystem: filesystem.into() };
        assert_eq!(root.guest_layers(), [layer("/dev/vda", "erofs"), layer("/dev/vdb", "ext4")]);
        assert_eq!(root.guest_scratch(), "/dev/vdc");
    }
}
