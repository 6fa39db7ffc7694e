//! The container's cgroup on the host, where `docker stats` and the OOM watch look: the VMM sits in it.
//!
//! Version 2, one directory; version 1, one in each mounted hierarchy. A systemd path (`slice:prefix:name`) becomes
//! the directory that systemd would use; the unit itself is not registered with systemd yet.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where distributions mount cgroups.
const MOUNT: &str = "/sys/fs/cgroup";

/// How long a killed VMM may take to leave its cgroup.
const LEAVE: Duration = Duration::from_secs(10);

/// Controllers handed down to the container's cgroup, where the host has them.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

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
    /// A directory can't be made.
    #[error("The cgroup {} can't be made", path.display())]
    Create {
        /// Which directory.
        path: PathBuf,
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

/// A container's cgroup: one directory, or one for each hierarchy of version 1.
#[derive(Debug, Clone)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// The cgroup that `path` (`linux.cgroupsPath`) names, whether it exists or not.
    ///
    /// # Errors
    /// [`CgroupError::Path`].
    pub fn named(path: &str, systemd: bool) -> Result<Self, CgroupError> {
        let relative = if systemd { systemd_path(path) } else { plain_path(path) }
            .ok_or_else(|| CgroupError::Path { path: path.to_owned() })?;
        Ok(Self { directories: hierarchies().into_iter().map(|mount| mount.join(&relative)).collect() })
    }

    /// Makes it with all its parents. One that is there already is used.
    ///
    /// # Errors
    /// [`CgroupError::Create`]; what was made by then is removed.
    pub fn create(&self) -> Result<(), CgroupError> {
        for path in &self.directories {
            if let Err(source) = fs::create_dir_all(path) {
                let _ = self.remove();
                return Err(CgroupError::Create { path: path.clone(), source });
            }
            delegate(path);
        }
        Ok(())
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// [`CgroupError::Add`].
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        for path in &self.directories {
            fs::write(path.join("cgroup.procs"), pid.to_string()).map_err(|source| CgroupError::Add {
                path: path.clone(),
                pid,
                source,
            })?;
        }
        Ok(())
    }

    /// Removes it, waiting a little for processes that are being killed. One that is gone is as good.
    ///
    /// # Errors
    /// [`CgroupError::Remove`].
    pub fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + LEAVE;
        for path in &self.directories {
            loop {
                match fs::remove_dir(path) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error)
                        if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Err(source) => return Err(CgroupError::Remove { path: path.clone(), source }),
                }
            }
        }
        Ok(())
    }
}

/// The mount points in which a cgroup is made.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(MOUNT);
    if statfs(&root).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return vec![root];
    }
    let Ok(entries) = fs::read_dir(&root) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        // Links (cpu → cpu,cpuacct) are second names; the hybrid layout's `unified` has no controllers.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != "unified")
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists() && !path.join("cpuset.cpus").exists())
        .collect()
}

/// Lets the directory have the controllers that its parents have. A controller that can't be had is no reason
/// not to run: the host may not delegate it.
fn delegate(path: &Path) {
    let mount = Path::new(MOUNT);
    let Ok(relative) = path.strip_prefix(mount) else { return };
    let mut parent = mount.to_path_buf();
    for component in relative.components() {
        for controller in CONTROLLERS {
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        parent.push(component);
    }
}

/// `/docker/ID`, or relative, beneath the mount; nothing that climbs out of it.
fn plain_path(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (clean.components().next().is_some() && !path.contains('\0')).then_some(clean)
}

/// `system.slice:docker:ID` → `system.slice/docker-ID.scope`; `a-b.slice` lies in `a.slice`.
fn systemd_path(path: &str) -> Option<PathBuf> {
    let mut parts = path.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '\0']) && part != "." && part != "..";
    if parts.next().is_some() || !plain(name) || prefix.contains(['/', '\0']) {
        return None;
    }
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").filter(|stem| plain(stem) || *stem == "-")?;
    let mut clean = PathBuf::new();
    if stem != "-" {
        let mut unit = String::new();
        for word in stem.split('-') {
            if word.is_empty() {
                return None;
            }
            unit.push_str(if unit.is_empty() { "" } else { "-" });
            unit.push_str(word);
            clean.push(format!("{unit}.slice"));
        }
    }
    let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    clean.push(scope);
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systemd_path_is_the_directory_systemd_would_use() {
        let path = |text| systemd_path(text).map(|path| path.display().to_string());
        assert_eq!(path("system.slice:docker:ab12").unwrap(), "system.slice/docker-ab12.scope");
        assert_eq!(path("machine.slice:libpod:x").unwrap(), "machine.slice/libpod-x.scope");
        assert_eq!(
            path("user-1000-a.slice::x").unwrap(),
            "user.slice/user-1000.slice/user-1000-a.slice/x.scope"
        );
        assert_eq!(path(":p:x").unwrap(), "system.slice/p-x.scope");
        assert_eq!(path("-.slice:p:x").unwrap(), "p-x.scope");
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        for bad in ["", "/", "/a/../../b", "..", "/docker/\0"] {
            assert_eq!(plain_path(bad), None, "{bad:?}");
        }
        for bad in ["/docker/x", "a:b", "a.slice:b:../x", "../a.slice:b:x", "a--b.slice:p:x", "a.slice:b:c:d"]
        {
            assert_eq!(systemd_path(bad), None, "{bad:?}");
        }
        assert_eq!(plain_path("/docker/ab12").unwrap(), Path::new("docker/ab12"));
    }

    #[test]
    fn a_cgroup_is_made_taken_into_and_removed() {
        let cgroup = Cgroup::named(&format!("/msb-test/{}", std::process::id()), false).unwrap();
        if let Err(error) = cgroup.create() {
            eprintln!("skipped: no cgroup can be made here: {error}");
            return;
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        cgroup.add(child.id()).unwrap();
        let procs = fs::read_to_string(cgroup.directories[0].join("cgroup.procs")).unwrap();
        assert_eq!(procs.trim(), child.id().to_string());
        child.kill().unwrap();
        child.wait().unwrap();
        cgroup.remove().unwrap();
        assert!(cgroup.directories.iter().all(|path| !path.exists()));
        cgroup.remove().unwrap();
        for path in &cgroup.directories {
            let _ = fs::remove_dir(path.parent().unwrap());
        }
    }
}
