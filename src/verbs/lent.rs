//! What the host has lent a container and takes back when it is deleted, or when its create fails.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::VerbError;
use crate::{
    bundle::Process,
    config::{Hooks, HostConfig, Rights, Room},
    host::cgroup::{Cgroup, CgroupError, Place},
    image::{self, BringBackError, Moment, Partly, Root},
    sandbox::control::{Control, ControlError},
    state::{Entry, Id, StateError},
};

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
    /// What may appear there.
    #[serde(flatten)]
    pub rights: Rights,
    /// What the machine of its pod has lent it.
    #[serde(default)]
    pub pod: Option<OfPod>,
}

/// A further container of a pod, towards the pod's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfPod {
    /// The directory of the pod's first container.
    pub sandbox: PathBuf,
    /// The container's id.
    pub container: String,
}

impl Lent {
    /// What `host` asks for, for the container of `entry` whose root is `root`.
    pub(super) fn new(
        entry: &Entry,
        host: &HostConfig,
        root: &Path,
        start_hooks: bool,
        systemd: bool,
    ) -> Result<Self, VerbError> {
        Ok(Self {
            disks: disks(entry.directory()),
            cgroup: host.cgroup.path.clone(),
            systemd,
            hooks: host.hooks.clone(),
            start_hooks,
            room: host.room,
            root: Root::of(root).map_err(|source| VerbError::Root { path: root.to_owned(), source })?,
            rights: host.rights.clone(),
            pod: None,
        })
    }

    /// The same for a root that is on an image.
    #[must_use]
    pub(super) fn on_image(self) -> Self {
        Self { root: self.root.on_image(), ..self }
    }

    /// The same for container `id` of the pod whose first container has the directory `sandbox`.
    #[must_use]
    pub(super) fn in_pod(self, sandbox: Option<PathBuf>, id: &Id) -> Self {
        let pod = sandbox.map(|sandbox| OfPod { sandbox, container: id.to_string() });
        Self { pod, ..self }
    }

    /// Its pod's machine has nothing of it any more.
    pub(super) fn dismiss(&self) -> Result<(), ControlError> {
        match &self.pod {
            Some(OfPod { sandbox, container }) => Control::of(sandbox).dismiss(container),
            None => Ok(()),
        }
    }

    /// Writes it down.
    pub(super) fn save(&self, entry: &Entry) -> Result<(), StateError> {
        entry.save(NAME, self)
    }

    /// What was written down; a create that was killed early has nothing.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::File`].
    pub fn load(entry: &Entry) -> Result<Option<Self>, StateError> {
        entry.load(NAME)
    }

    /// The container's cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Path`].
    pub fn cgroup(&self) -> Result<Option<Cgroup>, CgroupError> {
        self.place().map(|place| place.cgroup()).transpose()
    }

    /// Where that is.
    pub(super) fn place(&self) -> Option<Place> {
        self.cgroup.clone().map(|path| Place { path, systemd: self.systemd })
    }

    /// Notes that `process` is begun in the container of `entry`, which may do to the container's files what the others could
    /// not: an exec can have other capabilities.
    ///
    /// # Errors
    /// [`StateError`].
    pub(super) fn admit(entry: &Entry, process: &Process) -> Result<(), StateError> {
        let wider = |lent: Option<Self>| {
            lent.and_then(|lent| Some(Self { rights: lent.rights.with(process)?, ..lent }))
        };
        if wider(Self::load(entry)?).is_none() {
            return Ok(());
        }
        // Again: another one may have been begun meanwhile.
        let entry = entry.locked()?;
        wider(Self::load(&entry)?).map_or(Ok(()), |lent| lent.save(&entry))
    }

    /// Brings what the container wrote back to its root.
    pub(super) fn bring_back(&self, moment: Moment) -> Result<Option<Partly>, BringBackError> {
        image::bring_back(&self.disks, &self.root, &self.rights, moment)
    }

    /// The same for what a container of this name left when the host went down.
    pub(super) fn rescue(&self) -> Result<Option<Partly>, BringBackError> {
        image::rescue(&self.disks, &self.root, &self.rights)
    }

    /// Puts the disk with what the container wrote aside; returns where.
    pub(super) fn keep_disk(&self) -> Result<PathBuf, BringBackError> {
        image::keep(&self.disks)
    }

    /// Removes the disks and the cgroup; both are tried.
    pub(super) fn take_back(&self) -> Result<(), VerbError> {
        self.dismiss()?;
        let disks = image::remove(&self.disks);
        if let Some(cgroup) = self.cgroup()? {
            cgroup.remove()?;
        }
        disks.map_err(VerbError::Left)
    }
}

/// Named after the container's directory, so that one id may exist under several `--root`.
pub(super) fn disks(directory: &Path) -> PathBuf {
    let same = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let hash = Sha256::digest(same.as_os_str().as_encoded_bytes());
    let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Path::new(DISKS).join(name)
}

/// Takes back on drop, unless told to leave it.
#[derive(Debug)]
pub(super) struct Guard(Option<Lent>);

impl Guard {
    /// From now on what is made is taken back.
    pub(super) fn new(lent: Lent) -> Self {
        Self(Some(lent))
    }

    /// The container keeps it.
    pub(super) fn keep(mut self) {
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
