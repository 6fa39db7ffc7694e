//! A container that is there, from its creation to its end: what the agent keeps of it, and how it leaves the guest.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use msb_agent::protocol::{Failure, Process};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::cgroup::{self, Cgroup, oom};
use super::namespaces::Isolation;
use super::place::Place;
use super::root::Mounted;
use crate::process::record::Record;
use crate::{log, slots};

/// How long the kernel may take to let go of a mount after the container's last process.
const PATIENCE: Duration = Duration::from_millis(500);
/// More mounts than a container has of one kind.
const MOUNTS: usize = 4096;

/// The container.
#[derive(Debug)]
pub struct Made {
    /// Where it is.
    pub place: Place,
    /// Disks that were put into the machine for it.
    pub devices: Vec<String>,
    /// Its root.
    pub root: Mounted,
    /// Its processes.
    pub cgroup: Cgroup,
    /// What an exec has to join.
    pub isolation: Isolation,
    /// Who is killed for want of memory.
    pub oom: Arc<oom::Watch>,
    /// As the first process was asked for: an exec gets what it leaves open from it.
    pub asked: Process,
    /// Its first process, while it has one.
    pub init: Mutex<Option<Arc<Record>>>,
}

impl Made {
    /// Whether it is the guest's first.
    pub fn is_first(&self) -> bool {
        self.place == Place::first()
    }

    /// Its first process, once that is ready.
    pub fn init(&self) -> Option<Arc<Record>> {
        self.init.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its first process is ready, or (`None`) has had its end told.
    pub fn set_init(&self, record: Option<&Arc<Record>>) {
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = record.map(Arc::clone);
    }

    /// No process is left in it: all that was written is on its disks.
    pub fn end(&self) {
        if let Err(failure) = self.root.end() {
            log::failure("end the container", &failure);
        }
    }

    /// Leaves nothing of it in the guest.
    pub fn leave(&self) {
        self.root.close();
        leave(&self.place, &self.devices);
    }
}

/// Leaves nothing in the guest of a container that has no processes (any more): its mounts, its cgroup, the drivers of its
/// disks. A mount that something still holds is left to whatever that is, and what it is on goes all the same.
pub fn leave(place: &Place, devices: &[String]) {
    let within = |directory: String| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MOUNTS);
        entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut mounts = vec![place.root(), place.upper()];
    mounts
        .extend((0..).map(|index| place.layer(index)).take_while(|layer| fs::exists(layer).unwrap_or(false)));
    mounts.extend(within(place.disks()));
    for path in &mounts {
        unmount(path);
        let _ = fs::remove_dir(path);
    }
    for file in within(place.files()) {
        let _ = fs::remove_file(file);
    }
    for directory in [place.disks(), place.files()].iter().map(String::as_str).chain(place.directories()) {
        // The one that all containers have together stays while another is in it.
        let _ = fs::remove_dir(directory);
    }
    for device in devices {
        if let Err(failure) = slots::unbind(device) {
            log::failure("let a disk go", &failure);
        }
    }
    cgroup::remove(place.cgroup());
}

fn unmount(path: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Err(Errno::EBUSY) => {
                let _ = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
                return;
            }
            // It was not mounted yet.
            Ok(()) | Err(_) => return,
        }
    }
}

/// Undoes a container that could not be made, on drop, unless it was kept.
#[derive(Debug)]
pub struct Undo {
    /// Where it would have been.
    pub place: Place,
    /// Disks that it has by now.
    pub devices: Vec<String>,
    /// It is there.
    pub kept: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        // A guest whose first container failed ends.
        if !self.kept && self.place != Place::first() {
            leave(&self.place, &self.devices);
        }
    }
}

/// The disk `device` as the kernel names it; one that was put into the machine later is given its driver, and is `taken`.
///
/// # Errors
/// [`Failure::Setup`].
pub fn take(device: &mut String, taken: &mut Vec<String>) -> Result<(), Failure> {
    if slots::is_slot(device) {
        let found = slots::disk(device)?;
        taken.push(std::mem::replace(device, found));
    }
    Ok(())
}
