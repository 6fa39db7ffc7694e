//! What a namespace holds: names, sysctls, and the root that the mount namespace's processes see.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use msb_agent::protocol::{Container, Failure, Namespace, Sysctl};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};

use super::beneath::Beneath;
use super::{at, plain};
use crate::sys;

/// As flags of clone(2), always with a mount namespace.
pub fn flags(namespaces: &[Namespace]) -> CloneFlags {
    namespaces.iter().fold(CloneFlags::CLONE_NEWNS, |flags, namespace| {
        flags
            | match namespace {
                Namespace::Pid => CloneFlags::CLONE_NEWPID,
                Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
                Namespace::Uts => CloneFlags::CLONE_NEWUTS,
                Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            }
    })
}

/// Host name, domain name and sysctls. Written through the agent's `/proc`, which no image can have prepared: the
/// kernel picks the namespace of who writes.
///
/// # Errors
/// [`Failure::Setup`] with the name concerned.
pub fn name(container: &Container) -> Result<(), Failure> {
    if let Some(hostname) = &container.hostname {
        sethostname(hostname).map_err(plain).map_err(at(|| format!("set the host name {hostname:?}")))?;
    }
    if let Some(domainname) = &container.domainname {
        sys::set_domain_name(domainname)
            .map_err(plain)
            .map_err(at(|| format!("set the domain name {domainname:?}")))?;
    }
    for Sysctl { key, value } in &container.sysctls {
        let path =
            sysctl_path(key).ok_or_else(|| super::setup(format!("set the sysctl {key:?}"), &"not a name"))?;
        // A write that opens only what exists: `fs::write` would try to create.
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(at(|| format!("set the sysctl {key}")))?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` lies at `/proc/sys/net/ipv4/ip_forward`; an interface's dot is written as a slash (sysctl.d(5)).
fn sysctl_path(key: &str) -> Option<String> {
    let swapped: String = match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => key.to_owned(),
        _ => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    };
    let fine = !swapped.is_empty() && swapped.split('/').all(|part| !matches!(part, "" | "." | ".."));
    fine.then(|| format!("/proc/sys/{swapped}"))
}

/// No mount of the container reaches the agent's namespace.
///
/// # Errors
/// [`Failure::Setup`].
pub fn detach_propagation() -> Result<(), Failure> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(plain)
        .map_err(at(|| "make all mounts private".into()))
}

/// Makes `root` the `/` of this mount namespace and takes the old one away.
///
/// # Errors
/// [`Failure::Setup`].
pub fn enter(root: &Beneath) -> Result<(), Failure> {
    swap(root).map_err(plain).map_err(at(|| "enter the root file system".into()))
}

fn swap(root: &Beneath) -> Result<(), Errno> {
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old: OwnedFd = open("/", directory, Mode::empty())?;
    let new = root.open(Path::new("/"), directory)?;
    fchdir(&new)?;
    // The old root ends up on top of the new one at the same place, where it is taken away (pivot_root(2), NOTES).
    pivot_root(".", ".")?;
    fchdir(&old)?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

#[cfg(test)]
mod tests {
    use super::sysctl_path;

    #[test]
    fn sysctls_stay_below_their_directory() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/x").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/x");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.x").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/x");
        for bad in ["", "a..b", "../kernel", "kernel/../../self", ".a", "a/./b"] {
            assert_eq!(sysctl_path(bad), None, "{bad}");
        }
    }
}
