//! The container's cgroup inside the guest: who is in it, and the one way to kill all of it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::{Duration, Instant};

use msb_agent::protocol::Failure;

use super::users::Owners;
use super::{at, setup};
use crate::log;

pub mod files;
pub mod filter;
pub mod idle;
pub mod limits;
pub mod oom;
pub mod statistics;

const ROOT: &str = "/sys/fs/cgroup";
const DIRECTORY: &str = "/sys/fs/cgroup/container";
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
}

impl Cgroup {
    /// Makes it, empty.
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn create() -> Result<Self, Failure> {
        enable_controllers();
        fs::create_dir(DIRECTORY).map_err(at(|| format!("make the cgroup {DIRECTORY}")))?;
        let directory = File::open(DIRECTORY).map_err(at(|| format!("open the cgroup {DIRECTORY}")))?;
        Ok(Self { directory })
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
            chown(format!("{DIRECTORY}/{file}"), uid, gid)
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
        let path = beneath(&text).ok_or(std::io::ErrorKind::NotFound)?;
        File::open(format!("{ROOT}{path}"))
    }

    /// Every process in it, as pids of the guest's first namespace.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect(Path::new(DIRECTORY), DEPTH, &mut pids);
        pids
    }

    /// Stops every process in it, and returns when all stand still.
    ///
    /// # Errors
    /// [`Failure::Setup`], also when some process does not stop in time; all go on then.
    pub fn freeze(&self) -> Result<(), Failure> {
        let frozen = || -> std::io::Result<()> {
            files::write("cgroup.freeze", "1")?;
            let deadline = Instant::now() + PATIENCE;
            while !event("frozen 1") {
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
        files::write("cgroup.freeze", "0").map_err(at(|| "thaw the container".into()))
    }

    /// Kills every process in it, also those being forked, and waits until they are gone or it takes too long.
    pub fn kill(&self) {
        if let Err(error) = files::write("cgroup.kill", "1") {
            log::failure("kill the container", &error);
        }
        let deadline = Instant::now() + PATIENCE;
        while event("populated 1") {
            if Instant::now() > deadline {
                log::failure("kill the container", &"some processes don't end");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Every controller that the kernel has, for the container and for cgroups that it makes itself. Where one can't be
/// had (the agent as an ordinary process), a limit that needs it says so.
fn enable_controllers() {
    let list = files::read_path(&format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
    let words: Vec<String> = list.split_whitespace().map(|name| format!("+{name}")).collect();
    if !words.is_empty() {
        let _ = files::write_path(&format!("{ROOT}/cgroup.subtree_control"), &words.join(" "));
    }
}

/// The path of version 2 in `/proc/PID/cgroup` (cgroup-v2.rst, "Processes"), if it is the container's.
fn beneath(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = DIRECTORY.strip_prefix(ROOT)?;
    path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')).then_some(path)
}

/// Whether `cgroup.events` has this line.
fn event(wanted: &str) -> bool {
    files::read("cgroup.events").is_ok_and(|text| text.lines().any(|line| line == wanted))
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
        assert_eq!(beneath("0::/container/init.scope\n"), Some("/container/init.scope"));
        assert_eq!(beneath("1:name=systemd:/x\n0::/container\n"), Some("/container"));
        assert_eq!(beneath("0::/containers\n"), None);
        assert_eq!(beneath("0::/\n"), None);
        assert_eq!(beneath(""), None);
    }
}
