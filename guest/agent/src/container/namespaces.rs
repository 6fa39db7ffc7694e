//! What a namespace holds: names, sysctls, and the root that the mount namespace's processes see.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use msb_agent::protocol::{Clock, Container, Failure, Namespace, Personality, Sysctl, TimeOffset, UserMap};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};
use serde::{Deserialize, Serialize};

use super::beneath::Beneath;
use super::cgroup::files;
use super::{at, options, plain};
use crate::sys;

/// What a process must join to be in the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Isolation {
    /// Made for it, or another container's in which it lives.
    pub namespaces: Vec<Namespace>,
    /// Of its user namespace.
    pub user_map: UserMap,
    /// For each of its processes.
    pub personality: Option<Personality>,
}

impl Isolation {
    /// Of a container to be made.
    pub fn of(container: &Container) -> Self {
        Self {
            namespaces: (container.namespaces.iter().copied())
                .chain(container.joined.iter().map(|joined| joined.namespace))
                .collect(),
            user_map: container.user_map.clone(),
            personality: container.personality,
        }
    }
}

/// `CLONE_NEWTIME` of linux/sched.h, which shares its bit with the exit signal of the old clone(2).
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Made by the helper itself: the cgroup namespace once it is in its cgroup, the clocks because they can only be set
/// before anybody lives by them, the users when all else is done.
const LATE: CloneFlags = CloneFlags::CLONE_NEWCGROUP.union(CloneFlags::CLONE_NEWUSER).union(NEWTIME);

/// Those that a helper is born in.
pub fn early_flags(namespaces: &[Namespace]) -> CloneFlags {
    flags(namespaces) - LATE
}

/// As flags of clone(2), always with a mount namespace.
pub fn flags(namespaces: &[Namespace]) -> CloneFlags {
    namespaces.iter().fold(CloneFlags::CLONE_NEWNS, |flags, namespace| {
        flags
            | match namespace {
                Namespace::Pid => CloneFlags::CLONE_NEWPID,
                Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
                Namespace::Uts => CloneFlags::CLONE_NEWUTS,
                Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                Namespace::User => CloneFlags::CLONE_NEWUSER,
                Namespace::Time => NEWTIME,
            }
    })
}

/// A time namespace with its offsets. Whoever makes it lives by it from its next `execve` on.
///
/// # Errors
/// [`Failure::Setup`].
pub fn move_clocks(offsets: &[TimeOffset]) -> Result<(), Failure> {
    unshare(NEWTIME).map_err(plain).map_err(at(|| "make a time namespace".into()))?;
    let line = |offset: &TimeOffset| {
        let clock = match offset.clock {
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        };
        format!("{clock} {} {}\n", offset.seconds, offset.nanoseconds)
    };
    if offsets.is_empty() {
        return Ok(());
    }
    let lines: String = offsets.iter().map(line).collect();
    files::write_path("/proc/self/timens_offsets", &lines)
        .map_err(plain)
        .map_err(at(|| "set the time namespace's offsets".into()))
}

/// What `uname` and others are told of the machine.
///
/// # Errors
/// [`Failure::Setup`].
pub fn set_personality(personality: Option<Personality>) -> Result<(), Failure> {
    // PER_LINUX and PER_LINUX32 of linux/personality.h.
    let domain = match personality {
        None => return Ok(()),
        Some(Personality::Linux) => 0,
        Some(Personality::Linux32) => 8,
    };
    sys::set_personality(domain).map_err(plain).map_err(at(|| "set the personality".into()))
}

/// Gives the root mount its propagation. What the word says about mounts beneath holds for them as well.
///
/// # Errors
/// [`Failure::Setup`].
pub fn propagate(word: &str) -> Result<(), Failure> {
    let options = options::parse(&[word.to_owned()]);
    let none = None::<&str>;
    options.propagation.iter().try_for_each(|flags| {
        mount(none, "/", none, *flags, none)
            .map_err(plain)
            .map_err(at(|| format!("make the root mount {word}")))
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
