//! What the guest's kernel did for want of memory, made known on the host.
//!
//! containerd and conmon learn that a container was "OOM killed" from `oom_kill` in `memory.events` of its cgroup: a
//! count of the host's kernel, which knows nothing of what the guest's killed. So the host's kernel is given something
//! to kill: a process of our own that wants memory in a cgroup of its own *beneath* the container's, where there is none.
//! The kernel counts that in all cgroups above, and tells those that watch (kernel, `admin-guide/cgroup-v2.rst`,
//! `memory.events`: "all fields in this file are hierarchical").
//!
//! A cgroup whose children have limits may hold no processes ("no internal processes"), so the VMM and the execs beside it
//! step aside into a second child for these milliseconds. Neither their limits nor what is counted for them changes by
//! that: both stay with the container's cgroup. Who dies in the middle leaves children that
//! [`Cgroup::remove`](super::Cgroup::remove) takes away.
//!
//! Version 1 tells only those that watch the very cgroup in which memory was short, so there it can't be shown.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Cgroup, Directory, Version, write};

/// Where the container's processes step aside.
const ASIDE: &str = "aside";
/// Where memory is short.
const SHORT: &str = "short";
/// Both.
pub(super) const CHILDREN: [&str; 2] = [ASIDE, SHORT];
/// How long execs that come meanwhile may keep the cgroup from being empty.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why it can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum OomError {
    /// Nobody would see it.
    #[error("This host's cgroups, version 1, can't be told that the guest's kernel has killed a process")]
    VersionOne,
    /// A file of the cgroup.
    #[error("The cgroup's {} can't be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The process that was to be killed lives.
    #[error("The kernel did not kill the process that it was given")]
    Survived(#[source] io::Error),
}

/// Tells when to look at [`Cgroup::oom_kills`].
#[derive(Debug)]
pub struct OomWatch(Inotify);

impl OomWatch {
    /// What was told is known: it can't be read before there is more.
    pub fn clear(&self) {
        // There may be nothing.
        let _ = self.0.read_events();
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Cgroup {
    /// Lets the kernel kill `victim`, a process that waits and does nothing else: `fall` tells it to take memory, and
    /// returns when it has been killed. In the end everything is as before, but for the counts.
    ///
    /// # Errors
    /// [`OomError`]; then, too, everything is as before.
    pub fn show_oom(&self, victim: u32, fall: impl FnOnce() -> io::Result<()>) -> Result<(), OomError> {
        let Some(Directory { path, .. }) = self.directories.iter().find(|one| one.version == Version::Two)
        else {
            return Err(OomError::VersionOne);
        };
        let shown = step_aside(path).and_then(|()| starve(path, victim, fall));
        let back = step_back(path);
        shown.and(back)
    }

    /// A descriptor that can be read after [`Self::oom_kills`] may have changed; `None` where nobody is told.
    #[must_use]
    pub fn watch_oom(&self) -> Option<OomWatch> {
        let Directory { path, .. } = self.directories.iter().find(|one| one.version == Version::Two)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
        inotify.add_watch(&path.join("memory.events"), AddWatchFlags::IN_MODIFY).ok()?;
        Some(OomWatch(inotify))
    }

    /// How many processes the kernel has killed in it for want of memory; `None` where it is not counted.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        self.directories.iter().find_map(|one| {
            let name = if one.version == Version::Two { "memory.events" } else { "memory.oom_control" };
            let text = fs::read_to_string(one.path.join(name)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
    }
}

/// Empties the cgroup of processes, and lets its children have limits.
fn step_aside(cgroup: &Path) -> Result<(), OomError> {
    for child in CHILDREN {
        make(&cgroup.join(child))?;
    }
    let control = cgroup.join("cgroup.subtree_control");
    let deadline = Instant::now() + PATIENCE;
    loop {
        move_all(cgroup, &cgroup.join(ASIDE))?;
        match write(&control, "+memory") {
            Ok(()) => return Ok(()),
            // Somebody has just been put in.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {}
            Err(source) => return Err(OomError::File { path: control, source }),
        }
    }
}

/// Lets the victim want what there is none of.
fn starve(cgroup: &Path, victim: u32, fall: impl FnOnce() -> io::Result<()>) -> Result<(), OomError> {
    let short = cgroup.join(SHORT);
    let set = |file: &str, value: &str| {
        let path = short.join(file);
        match write(&path, value) {
            // Without swap there is nothing to forbid.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file == "memory.swap.max" => Ok(()),
            other => other.map_err(|source| OomError::File { path, source }),
        }
    };
    set("memory.swap.max", "0")?;
    set("memory.max", "0")?;
    set("cgroup.procs", &victim.to_string())?;
    fall().map_err(OomError::Survived)
}

/// Undoes [`step_aside`], as far as it came.
fn step_back(cgroup: &Path) -> Result<(), OomError> {
    remove(&cgroup.join(SHORT))?;
    let control = cgroup.join("cgroup.subtree_control");
    // It may not have been set.
    let _ = write(&control, "-memory");
    let aside = cgroup.join(ASIDE);
    move_all(&aside, cgroup)?;
    remove(&aside)
}

fn make(child: &Path) -> Result<(), OomError> {
    match fs::create_dir(child) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(OomError::File { path: child.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Waits a little for a process that is about to be gone.
fn remove(child: &Path) -> Result<(), OomError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(child) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other.map_err(|source| OomError::File { path: child.to_owned(), source }),
        }
    }
}

fn move_all(from: &Path, to: &Path) -> Result<(), OomError> {
    let list = from.join("cgroup.procs");
    let procs = match fs::read_to_string(&list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|source| OomError::File { path: list, source })?,
    };
    let target = to.join("cgroup.procs");
    for pid in procs.lines() {
        match write(&target, pid) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            other => other.map_err(|source| OomError::File { path: target.clone(), source })?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_kernels_count_rises_and_nothing_else_changes() {
        let cgroup = Cgroup::named(&format!("/msb-oom-test/{}", std::process::id()), false).unwrap();
        let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
        let entered = cgroup.enter(bystander.id(), &Limits::default());
        let two = cgroup.directories.iter().find(|one| one.version == Version::Two).cloned();
        let counted = two.is_some() && cgroup.oom_kills().is_some();
        let mut victim = Command::new("sh")
            .args(["-c", "read go; x=x; while :; do x=$x$x; done"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = victim.id();
        let shown = cgroup.show_oom(pid, || {
            drop(victim.stdin.take());
            victim.wait().map(drop)
        });
        let kills = cgroup.oom_kills();
        let left = two.map(|two| (fs::read_to_string(two.path.join("cgroup.procs")), two.path));
        let _ = victim.kill();
        victim.wait().unwrap();
        bystander.kill().unwrap();
        bystander.wait().unwrap();
        cgroup.remove().unwrap();
        if entered.is_err() || !counted {
            let problem = "no cgroup of version 2 with memory can be used here";
            return test_skips::skip(format_args!("{problem}: {entered:?} {shown:?}"));
        }
        shown.unwrap();
        assert_eq!(kills, Some(1));
        let (procs, path) = left.unwrap();
        assert_eq!(procs.unwrap().trim(), bystander.id().to_string());
        let _ = fs::remove_dir(path.parent().unwrap());
    }
}
