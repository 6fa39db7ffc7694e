//! What the container wrote comes back: from its writable disk into its root on the host.
//!
//! Enters: the disks' directory, the root and what may appear there. Leaves: the root as the container saw it. The disk
//! was written by a hostile guest; rootfs-builder reads it, and the host's kernel never mounts it.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::statvfs::{FsFlags, statvfs};
use rootfs_builder::{
    output::Durability,
    writeback::{
        self, DeviceKind, DeviceRule, Ids, Limits, Options, SkipReason, Skipped, Summary, WritebackError,
    },
};
use serde::{Deserialize, Serialize};

use super::{OWNER, SCRATCH};
use crate::{
    config::{NodeRule, Rights},
    plain,
};

/// What was brought back before, beside the disk.
const MANIFEST: &str = "brought-back";
/// How long a killed machine may take to be gone: it gives back the guest's memory.
const MACHINES_END: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// Beside the disks' directories: disks that could not be brought back.
const KEPT: &str = "kept";

/// A root on the host, so that nothing is ever brought to another directory of the same name: when an overlay is
/// unmounted, its empty mount point is there instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// It is not there, but on an image that the machine reads.
    #[serde(default)]
    image: bool,
}

impl Root {
    /// The directory as it is now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino(), image: false })
    }

    /// The same, for one whose content is on a [`super::RootImage`]: nothing is ever brought there.
    #[must_use]
    pub fn on_image(self) -> Self {
        Self { image: true, ..self }
    }

    fn is_there(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| now == *self)
    }
}

/// Which moment of the container's life it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It stands still, and will go on.
    Paused,
    /// Its machine is gone.
    Ended,
}

/// Why what was written did not come back. The disk is still there.
#[derive(Debug, thiserror::Error)]
pub enum BringBackError {
    /// The disk is sound, but the host could not take it. Trying again later may help.
    #[error("What the container wrote can't be brought back to {}; it is still on its disk {}", root.display(), disk.display())]
    Host {
        /// The root.
        root: PathBuf,
        /// The disk.
        disk: PathBuf,
        /// The cause.
        #[source]
        source: Box<WritebackError>,
    },
    /// Its machine still has it.
    #[error("The machine that writes to {} does not end", disk.display())]
    Busy {
        /// The disk.
        disk: PathBuf,
    },
    /// The disk makes no sense. It was put aside.
    #[error("What the container wrote can't be read; its disk is kept as {}", disk.display())]
    Guest {
        /// Where it is now.
        disk: PathBuf,
        /// The cause.
        #[source]
        source: Box<WritebackError>,
    },
    /// There is no root to bring it to. The disk was put aside.
    #[error("The container's root {} is gone; what the container wrote is kept as {}", root.display(), disk.display())]
    NoRoot {
        /// Where it was.
        root: PathBuf,
        /// Where the disk is now.
        disk: PathBuf,
    },
    /// The disk could not even be put aside.
    #[error("The container's disk {} can't be put aside", disk.display())]
    Keep {
        /// The disk.
        disk: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What did not come back, or not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Not all that the container wrote came back to {}: {words}", root.display())]
pub struct Partly {
    root: PathBuf,
    words: String,
}

/// Names that are told; of the others, how many there are.
const NAMED: usize = 5;

impl Partly {
    /// None if all came back.
    fn of(summary: &Summary, root: &Root) -> Option<Self> {
        let mut words = Vec::new();
        if summary.disk_had_errors {
            words.push("its disk had errors, as when the host's is full".to_owned());
        }
        for Skipped { path, reason } in summary.skipped.iter().take(NAMED) {
            let why = match reason {
                SkipReason::Device => "is a device that it may not make",
                SkipReason::Reserved => "has a name that is reserved",
                SkipReason::Attributes => {
                    "came without attributes that it may not set, or that the host can't hold"
                }
            };
            // The guest chose the name.
            words.push(format!("{} {why}", plain::line(&path.to_string_lossy())));
        }
        let named = u64::try_from(summary.skipped.len().min(NAMED)).unwrap_or(u64::MAX);
        if summary.skipped_count > named {
            words.push(format!("so it is with {} more", summary.skipped_count - named));
        }
        (!words.is_empty()).then(|| Self { root: root.path.clone(), words: words.join("; ") })
    }
}

/// Brings what was written on the disks of `dir` to `root`, and tells what of it did not come. Without a disk, or with nothing on
/// it, nothing is done.
///
/// # Errors
/// [`BringBackError`]; after [`Moment::Paused`] the disk is never moved.
pub fn bring_back(
    dir: &Path,
    root: &Root,
    rights: &Rights,
    moment: Moment,
) -> Result<Option<Partly>, BringBackError> {
    let disk = dir.join(SCRATCH);
    if !fs::exists(&disk).unwrap_or(true) {
        return Ok(None);
    }
    if moment == Moment::Ended && !is_free(&disk) {
        return Err(BringBackError::Busy { disk });
    }
    match apply(dir, &disk, root, rights, moment) {
        Ok(Some(summary)) => Ok(Partly::of(&summary, root)),
        Ok(None) => {
            let disk = if moment == Moment::Ended { keep(dir)? } else { disk };
            Err(BringBackError::NoRoot { root: root.path.clone(), disk })
        }
        Err(error) if error.is_guest() => {
            let disk = if moment == Moment::Ended { keep(dir)? } else { disk };
            Err(BringBackError::Guest { disk, source: Box::new(error) })
        }
        Err(error) => Err(BringBackError::Host { root: root.path.clone(), disk, source: Box::new(error) }),
    }
}

/// Waits until no machine writes to the disk any more. The container's process ends at the moment that it is killed, the
/// machine's, which the kernel kills with it, some moments later: until then it has the disk locked.
fn is_free(disk: &Path) -> bool {
    let deadline = Instant::now() + MACHINES_END;
    loop {
        // One that can't be opened is told of by who reads it.
        let Ok(file) = fs::File::open(disk) else { return true };
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK),
            Err(fs::TryLockError::WouldBlock) => return false,
            // A file system without locks has none that could be held.
            Ok(()) | Err(fs::TryLockError::Error(_)) => return true,
        }
    }
}

/// Brings back what a container of the same name left on the disks of `dir` when the host went down under it: its record is
/// gone, its root is mounted again. Afterwards `dir` does not exist. Disks of another root are put aside.
///
/// # Errors
/// As [`bring_back`], and [`BringBackError::Keep`] when the rest can't be removed.
pub fn rescue(dir: &Path, root: &Root, rights: &Rights) -> Result<Option<Partly>, BringBackError> {
    let disk = dir.join(SCRATCH);
    let mut partly = None;
    if fs::exists(&disk).unwrap_or(true) {
        let owner = fs::read(dir.join(OWNER)).unwrap_or_default();
        if owner == root.path.as_os_str().as_bytes() {
            partly = bring_back(dir, root, rights, Moment::Ended)?;
        } else {
            keep(dir)?;
        }
    }
    super::remove(dir).map_err(|error| BringBackError::Keep { disk, source: io::Error::other(error) })?;
    Ok(partly)
}

/// What was brought; none when there is something to bring, and no root any more.
fn apply(
    dir: &Path,
    disk: &Path,
    root: &Root,
    rights: &Rights,
    moment: Moment,
) -> Result<Option<Summary>, WritebackError> {
    if root.image {
        // The container could not write: what is there are the agent's mount points.
        return Ok(Some(Summary::default()));
    }
    let options = Options {
        rights: writeback::Rights {
            devices: rights.makes().iter().map(rule).collect(),
            set_uid: Ids(rights.users()),
            set_gid: Ids(rights.groups()),
            capabilities: Ids(rights.roots()),
            trusted: rights.trusted(),
        },
        manifest: Some(dir.join(MANIFEST)),
        last: moment == Moment::Ended,
        // What the container synced is on the disk until the disk goes; from then on it must be in the root.
        durability: if moment == Moment::Ended { Durability::Durable } else { Durability::Throwaway },
        limits: Limits::default(),
    };
    if !root.is_there() {
        let empty = writeback::is_empty(disk, &options.limits)?;
        return Ok(empty.then(Summary::default));
    }
    if is_read_only(&root.path) {
        // As above.
        return Ok(Some(Summary::default()));
    }
    writeback::apply(disk, &root.path, &options).map(Some)
}

/// Whether the root is mounted read-only on the host.
pub(super) fn is_read_only(root: &Path) -> bool {
    statvfs(root).is_ok_and(|root| root.flags().contains(FsFlags::ST_RDONLY))
}

fn rule(node: &NodeRule) -> DeviceRule {
    let kind = if node.block { DeviceKind::Block } else { DeviceKind::Character };
    DeviceRule { kind, major: node.major, minor: node.minor }
}

/// Puts the disk where nothing removes it: beside the directory of disks, under that directory's name.
pub fn keep(dir: &Path) -> Result<PathBuf, BringBackError> {
    let disk = dir.join(SCRATCH);
    let failed = |source| BringBackError::Keep { disk: disk.clone(), source };
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let kept = parent.join(KEPT);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept).map_err(failed)?;
    let mut target = kept.join(name).with_extension("ext4");
    let mut number = 1;
    while fs::exists(&target).map_err(failed)? {
        target = kept.join(name).with_extension(format!("{number}.ext4"));
        number += 1;
    }
    fs::rename(&disk, &target).map_err(failed)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::prepare;

    fn container() -> (tempfile::TempDir, PathBuf, Root) {
        let directory = tempfile::tempdir().unwrap();
        let (root, disks) = (directory.path().join("root"), directory.path().join("disks/one"));
        fs::create_dir(&root).unwrap();
        prepare(&disks, &root, None, 64 << 20).unwrap();
        let root = Root::of(&root).unwrap();
        (directory, disks, root)
    }

    fn none() -> Rights {
        let process = serde_json::json!({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let process = crate::bundle::Process::check(serde_json::from_value(process).unwrap()).unwrap();
        Rights::new(Vec::new(), Default::default(), &process)
    }

    #[test]
    fn what_came_in_part_is_told_by_name() {
        let (_directory, _disks, root) = container();
        assert_eq!(Partly::of(&Summary { files: 3, ..Summary::default() }, &root), None);
        let skipped = |name: &str, reason| Skipped { path: name.into(), reason };
        let mut summary = Summary {
            skipped: vec![
                skipped("dev/x\u{1b}[2J", SkipReason::Device),
                skipped("bin/ping", SkipReason::Attributes),
            ],
            skipped_count: 2,
            ..Summary::default()
        };
        let words = Partly::of(&summary, &root).unwrap().to_string();
        assert!(
            words.contains("dev/x?[2J is a device") && words.contains("; bin/ping came without"),
            "{words}"
        );
        summary.skipped.extend((0..9).map(|_| skipped("x", SkipReason::Attributes)));
        (summary.skipped_count, summary.disk_had_errors) = (1000, true);
        let words = Partly::of(&summary, &root).unwrap().to_string();
        assert!(words.contains(": its disk had errors") && words.ends_with("with 995 more"), "{words}");
    }

    #[test]
    fn nothing_written_is_nothing_to_do() {
        let (_directory, disks, root) = container();
        for moment in [Moment::Paused, Moment::Ended] {
            bring_back(&disks, &root, &none(), moment).unwrap();
        }
        fs::remove_file(disks.join(SCRATCH)).unwrap();
        bring_back(&disks, &root, &none(), Moment::Ended).unwrap();
    }

    #[test]
    fn what_is_still_written_is_waited_for() {
        let (_directory, disks, root) = container();
        let machine = fs::File::options().write(true).open(disks.join(SCRATCH)).unwrap();
        machine.try_lock().unwrap();
        let began = Instant::now();
        let ends = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(machine);
        });
        bring_back(&disks, &root, &none(), Moment::Ended).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        ends.join().unwrap();
    }

    #[test]
    fn a_root_that_is_gone_needs_something_to_be_missed() {
        let (_directory, disks, root) = container();
        fs::rename(&root.path, root.path.with_extension("old")).unwrap();
        fs::create_dir(&root.path).unwrap();
        bring_back(&disks, &root, &none(), Moment::Ended).unwrap();
    }

    #[test]
    fn what_a_host_that_went_down_left_is_rescued_or_kept() {
        let (directory, disks, root) = container();
        rescue(&disks, &root, &none()).unwrap();
        assert!(!disks.exists());
        rescue(&disks, &root, &none()).unwrap();

        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        prepare(&disks, &elsewhere, None, 64 << 20).unwrap();
        rescue(&disks, &root, &none()).unwrap();
        assert!(!disks.exists() && directory.path().join("disks/kept/one.ext4").exists());
    }

    #[test]
    fn garbage_is_kept_and_its_place_is_told() {
        let (directory, disks, root) = container();
        fs::write(disks.join(SCRATCH), vec![0x5a; 1 << 20]).unwrap();
        let paused = bring_back(&disks, &root, &none(), Moment::Paused).unwrap_err();
        assert!(
            matches!(&paused, BringBackError::Guest { disk, .. } if disk.starts_with(&disks)),
            "{paused}"
        );
        for expected in ["one.ext4", "one.1.ext4"] {
            let error = bring_back(&disks, &root, &none(), Moment::Ended).unwrap_err();
            let kept = directory.path().join("disks/kept").join(expected);
            assert!(matches!(&error, BringBackError::Guest { disk, .. } if *disk == kept), "{error}");
            assert_eq!(fs::metadata(kept).unwrap().len(), 1 << 20);
            fs::write(disks.join(SCRATCH), vec![0x5a; 1 << 20]).unwrap();
        }
    }
}
