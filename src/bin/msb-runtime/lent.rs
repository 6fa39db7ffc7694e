//! What the host has lent a container and takes back when it is deleted, or when its create fails.

use std::path::{Path, PathBuf};

use anyhow::Context;
use msb_runtime::{
    config::{Hooks, HostConfig, NodeRule, Room},
    host::cgroup::{Cgroup, Place},
    image::{self, BringBackError, Moment, Root},
    state::Entry,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the disks of all containers are made: a disk's worth of data does not belong into `/run`.
const DISKS: &str = "/var/lib/msb-runtime";

/// Its name beside the record.
const NAME: &str = "lent";

/// Kept beside the record from before anything is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Directory of the container's disks.
    pub disks: PathBuf,
    /// `cgroupsPath`, if there is one.
    pub cgroup: Option<String>,
    /// Whether that is in systemd's form.
    pub systemd: bool,
    /// Those that run after create are still needed.
    pub hooks: Hooks,
    /// Whether hooks of the start run in the guest.
    #[serde(default)]
    pub start_hooks: bool,
    /// How its limit of memory can change.
    pub room: Room,
    /// Where what the container writes belongs.
    pub root: Root,
    /// Device nodes that may appear there.
    pub nodes: Vec<NodeRule>,
}

impl Lent {
    /// What `host` asks for, for the container of `entry` whose root is `root`.
    pub fn new(
        entry: &Entry,
        host: &HostConfig,
        root: &Path,
        start_hooks: bool,
        systemd: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            disks: disks(entry.directory()),
            cgroup: host.cgroup.path.clone(),
            systemd,
            hooks: host.hooks.clone(),
            start_hooks,
            room: host.room,
            root: Root::of(root).with_context(|| format!("The root {} can't be opened", root.display()))?,
            nodes: host.nodes.clone(),
        })
    }

    /// Writes it down.
    pub fn save(&self, entry: &Entry) -> anyhow::Result<()> {
        Ok(entry.save(NAME, self)?)
    }

    /// What was written down; a create that was killed early has nothing.
    pub fn load(entry: &Entry) -> anyhow::Result<Option<Self>> {
        Ok(entry.load(NAME)?)
    }

    /// The container's cgroup.
    pub fn cgroup(&self) -> anyhow::Result<Option<Cgroup>> {
        Ok(self.place().map(|place| place.cgroup()).transpose()?)
    }

    /// Where that is.
    pub fn place(&self) -> Option<Place> {
        self.cgroup.clone().map(|path| Place { path, systemd: self.systemd })
    }

    /// Brings what the container wrote back to its root.
    pub fn bring_back(&self, moment: Moment) -> Result<(), BringBackError> {
        image::bring_back(&self.disks, &self.root, &self.nodes, moment)
    }

    /// The same for what a container of this name left when the host went down.
    pub fn rescue(&self) -> Result<(), BringBackError> {
        image::rescue(&self.disks, &self.root, &self.nodes)
    }

    /// Puts the disk with what the container wrote aside; returns where.
    pub fn keep_disk(&self) -> Result<PathBuf, BringBackError> {
        image::keep(&self.disks)
    }

    /// Removes the disks and the cgroup; both are tried.
    pub fn take_back(&self) -> anyhow::Result<()> {
        let disks = image::remove(&self.disks);
        if let Some(cgroup) = self.cgroup()? {
            cgroup.remove()?;
        }
        disks.context("The container's disks are left")
    }
}

/// Named after the container's directory, so that one id may exist under several `--root`.
fn disks(directory: &Path) -> PathBuf {
    let same = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let hash = Sha256::digest(same.as_os_str().as_encoded_bytes());
    let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Path::new(DISKS).join(name)
}

/// Takes back on drop, unless told to leave it.
#[derive(Debug)]
pub struct Guard(Option<Lent>);

impl Guard {
    /// From now on what is made is taken back.
    pub fn new(lent: Lent) -> Self {
        Self(Some(lent))
    }

    /// The container keeps it.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(lent) = self.0.take() {
            // Best effort: the error that led here is the one to be told.
            let _ = lent.take_back();
        }
    }
}
