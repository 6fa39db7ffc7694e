//! The container's cgroup on the host, where `docker stats` and the OOM watch look: the VMM sits in it, held to the
//! container's limits and what its machine needs beyond them.
//!
//! Version 2, one directory; version 1, one in each mounted hierarchy. With systemd (`slice:prefix:name`) a scope is
//! started around the VMM first: a directory that systemd does not know loses its controllers when systemd looks again.

mod oom;
mod path;
mod systemd;
mod usage;
mod v1;
mod v2;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{self, Signal},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};

use serde::{Deserialize, Serialize};

use crate::config::Limits;
pub use oom::{OomError, OomWatch};
use path::Unit;
pub use systemd::SystemdError;
pub use usage::CpuTime;

/// Where distributions mount cgroups.
const MOUNT: &str = "/sys/fs/cgroup";

/// How long a killed VMM may take to leave its cgroup.
const LEAVE: Duration = Duration::from_secs(10);

/// How long they are waited for before they are killed.
const GO: Duration = Duration::from_secs(2);

/// How long it may hold no process because some step aside.
const ASIDE: Duration = Duration::from_secs(5);

/// Controllers handed down to the container's cgroup, where the host has them.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Of version 1, without which no process can be taken in; inherited where they are empty.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Values that take a limit away: where its file isn't there, nothing has to be done.
const NO_LIMIT: [&str; 3] = ["max", "-1", "0"];

/// Why the cgroup can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Not a path beneath the cgroup mount.
    #[error(
        "cgroupsPath {path:?} is not usable: give /a/path without '..', or slice:prefix:name for systemd"
    )]
    Path {
        /// As in the bundle.
        path: String,
    },
    /// systemd does not start its scope.
    #[error("systemd can't start the scope {unit}")]
    Systemd {
        /// Its name.
        unit: String,
        /// The cause.
        #[source]
        source: SystemdError,
    },
    /// A directory can't be made.
    #[error("The cgroup {} can't be made", path.display())]
    Create {
        /// Which directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A limit can't be had.
    #[error(
        "The limit {file} = {value} can't be set: does this host's kernel have the controller, and is it on?"
    )]
    Limit {
        /// Which file.
        file: String,
        /// What was to be written.
        value: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A process can't be moved there.
    #[error("Process {pid} can't be put into the cgroup {}", path.display())]
    Add {
        /// Which directory.
        path: PathBuf,
        /// Which process.
        pid: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It can't be removed.
    #[error("The cgroup {} can't be removed: is a process left in it?", path.display())]
    Remove {
        /// Which directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Which cgroup a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `linux.cgroupsPath`
    pub path: String,
    /// Whether that is in systemd's form.
    pub systemd: bool,
}

impl Place {
    /// That cgroup.
    ///
    /// # Errors
    /// [`CgroupError::Path`].
    pub fn cgroup(&self) -> Result<Cgroup, CgroupError> {
        Cgroup::named(&self.path, self.systemd)
    }
}

/// A container's cgroup: one directory, or one for each hierarchy of version 1.
#[derive(Debug, Clone)]
pub struct Cgroup {
    directories: Vec<Directory>,
    unit: Option<Unit>,
}

/// Its place in one hierarchy.
#[derive(Debug, Clone)]
struct Directory {
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// One file of a limit, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// Of version 1: in whose hierarchy the file is.
    controller: &'static str,
    file: String,
    value: String,
    /// What other kernels have in its place.
    instead: Option<(&'static str, String)>,
}

impl Setting {
    fn new(controller: &'static str, file: &str, value: String) -> Self {
        Self { controller, file: file.to_owned(), value, instead: None }
    }

    fn or(self, file: &'static str, value: String) -> Self {
        Self { instead: Some((file, value)), ..self }
    }

    /// Writes it to the one of the two files that there is.
    fn write(&self, directory: &Path) -> Result<(), CgroupError> {
        let instead = self.instead.as_ref().map(|(file, value)| (*file, value.as_str()));
        let (file, value) = [Some((self.file.as_str(), self.value.as_str())), instead]
            .into_iter()
            .flatten()
            .find(|(file, _)| directory.join(file).exists())
            .unwrap_or((&self.file, &self.value));
        match write(&directory.join(file), value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && NO_LIMIT.contains(&value) => Ok(()),
            other => other.map_err(|source| CgroupError::Limit {
                file: file.to_owned(),
                value: value.to_owned(),
                source,
            }),
        }
    }
}

impl Cgroup {
    /// The cgroup that `path` (`linux.cgroupsPath`) names, whether it exists or not.
    ///
    /// # Errors
    /// [`CgroupError::Path`].
    pub fn named(path: &str, systemd: bool) -> Result<Self, CgroupError> {
        let place = if systemd { path::systemd(path) } else { path::plain(path) }
            .ok_or_else(|| CgroupError::Path { path: path.to_owned() })?;
        let directories = hierarchies()
            .into_iter()
            .map(|(mount, version)| Directory { path: mount.join(&place.directory), mount, version })
            .collect();
        Ok(Self { directories, unit: place.unit })
    }

    /// Makes it with all its parents, limits it, and takes a process in. One that is there already is used.
    ///
    /// # Errors
    /// [`CgroupError`]; what was made by then is [`Self::remove`]'s to take away, when the process is gone.
    pub fn enter(&self, pid: u32, limits: &Limits) -> Result<(), CgroupError> {
        if let Some(unit) = &self.unit {
            systemd::start(unit, pid, limits)
                .map_err(|source| CgroupError::Systemd { unit: unit.name.clone(), source })?;
        }
        for Directory { mount, path, version } in &self.directories {
            fs::create_dir_all(path).map_err(|source| CgroupError::Create { path: path.clone(), source })?;
            match version {
                Version::Two => delegate(mount, path),
                Version::One => inherit(mount, path)
                    .map_err(|source| CgroupError::Create { path: path.clone(), source })?,
            }
        }
        self.limit(limits)?;
        self.add(pid)
    }

    /// Holds it to other limits from now on; what they leave out stays.
    ///
    /// # Errors
    /// [`CgroupError::Limit`], [`CgroupError::Systemd`].
    pub fn change(&self, limits: &Limits) -> Result<(), CgroupError> {
        if let Some(unit) = &self.unit {
            systemd::change(unit, limits)
                .map_err(|source| CgroupError::Systemd { unit: unit.name.clone(), source })?;
        }
        self.limit(limits)
    }

    /// Holds it to `limits`; what they leave out stays.
    ///
    /// # Errors
    /// [`CgroupError::Limit`].
    fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        for Directory { mount, path, version } in &self.directories {
            let settings = match version {
                Version::Two => v2::settings(limits),
                Version::One => {
                    let mut settings = v1::settings(limits);
                    settings.retain(|setting| serves(mount, setting.controller));
                    settings
                }
            };
            // Memory may not be above memory and swap together, in whichever order they grow: what fails at first is
            // tried again when the rest is done.
            let failed = settings.iter().filter(|setting| setting.write(path).is_err());
            failed.collect::<Vec<_>>().into_iter().try_for_each(|setting| setting.write(path))?;
        }
        Ok(())
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// [`CgroupError::Add`].
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let deadline = Instant::now() + ASIDE;
        for Directory { path, .. } in &self.directories {
            loop {
                match write(&path.join("cgroup.procs"), &pid.to_string()) {
                    Ok(()) => break,
                    // For a moment it may hold none ([`oom`]).
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Err(source) => return Err(CgroupError::Add { path: path.clone(), pid, source }),
                }
            }
        }
        Ok(())
    }

    /// Removes it, waiting a little for processes that are being killed, and killing what does not go: a file system's back end
    /// that stands still sees no end of its machine. One that is gone is as good.
    ///
    /// # Errors
    /// [`CgroupError::Remove`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        let (begun, deadline) = (Instant::now(), Instant::now() + LEAVE);
        for Directory { path, .. } in &self.directories {
            loop {
                // Left where a VMM was killed at the wrong moment. If one can't be removed, neither can this.
                oom::CHILDREN.iter().for_each(|child| drop(fs::remove_dir(path.join(child))));
                match fs::remove_dir(path) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        if begun.elapsed() > GO {
                            kill_all(path);
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                    Err(source) => return Err(CgroupError::Remove { path: path.clone(), source }),
                }
            }
        }
        if let Some(unit) = &self.unit {
            // A scope ends with its last process; one that is remembered as failed would bar its name. Without systemd
            // there is none.
            let _ = systemd::forget(unit);
        }
        Ok(())
    }
}

/// Kills every process of a cgroup, unless the caller is one.
fn kill_all(path: &Path) {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = processes.lines().filter_map(|line| line.parse().ok()).collect();
    // 0: of another pid namespace. The kernel's own file (Linux 5.14) finds them too.
    let own = std::process::id().cast_signed();
    if !pids.contains(&own) && write(&path.join("cgroup.kill"), "1").is_err() {
        for pid in pids.into_iter().filter(|pid| *pid > 0) {
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The kernel takes a limit by one write to a file that it has made: nothing is created.
fn write(path: &Path, value: &str) -> io::Result<()> {
    io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(path)?, value.as_bytes())
}

/// The mount points in which a cgroup is made.
fn hierarchies() -> Vec<(PathBuf, Version)> {
    let root = PathBuf::from(MOUNT);
    if statfs(&root).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return vec![(root, Version::Two)];
    }
    let Ok(entries) = fs::read_dir(&root) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        // Links (cpu → cpu,cpuacct) are second names; the hybrid layout's `unified` has no controllers.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "unified")
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .map(|path| (path, Version::One))
        .collect()
}

/// Whether the hierarchy mounted at `mount` (`cpu,cpuacct`) is the controller's.
fn serves(mount: &Path, controller: &str) -> bool {
    let name = mount.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split(',').any(|one| one == controller)
}

/// Lets the directory have the controllers that its parents have. A controller that can't be had is no reason
/// not to run: the host may not delegate it. A limit that needs it fails later, by its name.
fn delegate(mount: &Path, path: &Path) {
    let Ok(relative) = path.strip_prefix(mount) else { return };
    let mut parent = mount.to_path_buf();
    for component in relative.components() {
        for controller in CONTROLLERS {
            let _ = write(&parent.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
        parent.push(component);
    }
}

/// Gives each new directory of a `cpuset` hierarchy what its parent has.
fn inherit(mount: &Path, path: &Path) -> io::Result<()> {
    if !serves(mount, "cpuset") {
        return Ok(());
    }
    let Ok(relative) = path.strip_prefix(mount) else { return Ok(()) };
    let mut directory = mount.to_path_buf();
    for component in relative.components() {
        let parent = directory.clone();
        directory.push(component);
        for file in CPUSET {
            if fs::read_to_string(directory.join(file))?.trim().is_empty() {
                write(&directory.join(file), fs::read_to_string(parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_made_limited_taken_into_and_removed() {
        let cgroup = Cgroup::named(&format!("/msb-test/{}", std::process::id()), false).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let limits = Limits { cpu_shares: Some(512), memory: Some(64 << 20), ..Limits::default() };
        let entered = cgroup.enter(child.id(), &limits);
        let look = |file: &str| {
            let found =
                cgroup.directories.iter().find_map(|one| fs::read_to_string(one.path.join(file)).ok());
            found.map(|text| text.trim().to_owned())
        };
        let seen =
            ["cgroup.procs", "cpu.shares", "cpu.weight", "memory.limit_in_bytes", "memory.max"].map(look);
        child.kill().unwrap();
        child.wait().unwrap();
        cgroup.remove().unwrap();
        assert!(cgroup.directories.iter().all(|one| !one.path.exists()));
        cgroup.remove().unwrap();
        for one in &cgroup.directories {
            let _ = fs::remove_dir(one.path.parent().unwrap());
        }
        if let Err(error) = entered {
            return test_skips::skip(format_args!("no cgroup can be used here: {error}"));
        }
        let [procs, shares, weight, limit, max] = seen;
        assert_eq!(procs.unwrap(), child.id().to_string());
        assert!(shares.as_deref() == Some("512") || weight.as_deref() == Some("20"), "{shares:?} {weight:?}");
        assert_eq!(limit.or(max).unwrap(), (64 << 20).to_string());
    }

    #[test]
    fn a_limit_that_is_not_there_can_only_be_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        Setting::new("", "memory.swap.max", "max".into()).write(directory.path()).unwrap();
        let error = Setting::new("", "memory.swap.max", "5".into()).write(directory.path()).unwrap_err();
        assert!(matches!(error, CgroupError::Limit { .. }), "{error}");
        fs::write(directory.path().join("io.weight"), "").unwrap();
        let setting = Setting::new("", "io.bfq.weight", "1".into()).or("io.weight", "2".into());
        setting.write(directory.path()).unwrap();
        assert_eq!(fs::read(directory.path().join("io.weight")).unwrap(), b"2");
    }
}
