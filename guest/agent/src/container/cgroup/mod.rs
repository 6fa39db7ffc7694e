//! The container's cgroup inside the guest: who is in it, and the one way to kill all of it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use msb_agent::protocol::Failure;

use super::place::{CGROUPS, Place};
use super::users::Owners;
use super::{at, setup};
use crate::log;
use files::Files;

pub mod files;
pub mod filter;
pub mod idle;
pub mod limits;
pub mod oom;
pub mod statistics;

/// A container may make cgroups of its own; further down nobody looks.
const DEPTH: usize = 16;
/// Pids read at most.
const PIDS: usize = 1 << 16;
/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cgroup of a container.
#[derive(Debug)]
pub struct Cgroup {
    directory: File,
    files: Files,
}

impl Cgroup {
    /// Makes it, empty.
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn create(place: &Place) -> Result<Self, Failure> {
        let path = place.cgroup();
        enable_controllers();
        fs::create_dir(path).map_err(at(|| format!("make the cgroup {path}")))?;
        let directory = File::open(path).map_err(at(|| format!("open the cgroup {path}")))?;
        Ok(Self { directory, files: Files(path.to_owned()) })
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Hands it to the root of the container's user namespace, as far as the kernel delegates a cgroup
    /// (cgroup-v2.rst, "Delegation").
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn give(&self, owners: Owners<'_>) -> Result<(), Failure> {
        if !owners.any() {
            return Ok(());
        }
        let (uid, gid) = (Some(owners.uid(0)?), Some(owners.gid(0)?));
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(self.files.path(file), uid, gid)
                .map_err(at(|| "hand the cgroup to the container's root".into()))?;
        }
        Ok(())
    }

    /// For clone3.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The one beneath it that a process of the container has gone to.
    ///
    /// # Errors
    /// When the process is gone, or in a cgroup that is not the container's.
    pub fn of_process(&self, pid: i32) -> std::io::Result<File> {
        let text = files::read_path(&format!("/proc/{pid}/cgroup"))?;
        let path = beneath(&text, &self.files.0).ok_or(std::io::ErrorKind::NotFound)?;
        File::open(format!("{CGROUPS}{path}"))
    }

    /// Every process in it, as pids of the guest's first namespace.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect(Path::new(&self.files.0), DEPTH, &mut pids);
        pids
    }

    /// Stops every process in it, and returns when all stand still.
    ///
    /// # Errors
    /// [`Failure::Setup`], also when some process does not stop in time; all go on then.
    pub fn freeze(&self) -> Result<(), Failure> {
        let frozen = || -> std::io::Result<()> {
            self.files.write("cgroup.freeze", "1")?;
            let deadline = Instant::now() + PATIENCE;
            while !self.event("frozen 1") {
                if Instant::now() > deadline {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        frozen().map_err(|error| {
            // The first error is the one to tell.
            let _ = self.thaw();
            at(|| "freeze the container".into())(error)
        })
    }

    /// Lets every process in it go on.
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn thaw(&self) -> Result<(), Failure> {
        self.files.write("cgroup.freeze", "0").map_err(at(|| "thaw the container".into()))
    }

    /// Kills every process in it, also those being forked, and waits until they are gone or it takes too long.
    pub fn kill(&self) {
        if let Err(error) = self.files.write("cgroup.kill", "1") {
            log::failure("kill the container", &error);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.event("populated 1") {
            if Instant::now() > deadline {
                log::failure("kill the container", &"some processes don't end");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether `cgroup.events` has this line.
    fn event(&self, wanted: &str) -> bool {
        self.files.read("cgroup.events").is_ok_and(|text| text.lines().any(|line| line == wanted))
    }
}

/// Every controller that the kernel has, for the container and for cgroups that it makes itself. Where one can't be
/// had (the agent as an ordinary process), a limit that needs it says so.
fn enable_controllers() {
    let list = files::read_path(&format!("{CGROUPS}/cgroup.controllers")).unwrap_or_default();
    let words: Vec<String> = list.split_whitespace().map(|name| format!("+{name}")).collect();
    if !words.is_empty() {
        let _ = files::write_path(&format!("{CGROUPS}/cgroup.subtree_control"), &words.join(" "));
    }
}

/// The path of version 2 in `/proc/PID/cgroup` (cgroup-v2.rst, "Processes"), if it is in the cgroup `directory`.
fn beneath<'t>(text: &'t str, directory: &str) -> Option<&'t str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = directory.strip_prefix(CGROUPS)?;
    path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')).then_some(path)
}

/// Removes the cgroup at `path`, in which no process is left, with those that the container made beneath it. What can't be
/// removed costs a little memory and is in nobody's way.
pub fn remove(path: &str) {
    remove_beneath(Path::new(path), DEPTH);
}

fn remove_beneath(directory: &Path, depth: usize) {
    if depth > 0 {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_beneath(&entry.path(), depth - 1);
            }
        }
    }
    let _ = fs::remove_dir(directory);
}

fn collect(directory: &Path, depth: usize, pids: &mut Vec<u32>) {
    let mut text = String::new();
    if let Ok(file) = File::open(directory.join("cgroup.procs")) {
        // A read error leaves what was read so far.
        let _ = file.take(1 << 20).read_to_string(&mut text);
    }
    let left = PIDS.saturating_sub(pids.len());
    // 0 stands for a process of another pid namespace, which can't be here.
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0).take(left));
    if depth == 0 || left == 0 {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, pids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_where_it_went() {
        const OWN: &str = "/sys/fs/cgroup/container";
        assert_eq!(beneath("0::/container/init.scope\n", OWN), Some("/container/init.scope"));
        assert_eq!(beneath("1:name=systemd:/x\n0::/container\n", OWN), Some("/container"));
        assert_eq!(beneath("0::/containers\n", OWN), None);
        assert_eq!(beneath("0::/\n", OWN), None);
        assert_eq!(beneath("", OWN), None);
    }
}
