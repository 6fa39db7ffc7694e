//! From the kernel's hand-over to a guest in which containers can be made.
//!
//! Two halves: [`first`] is what must be before the hello, [`rest`] runs while the host answers it. Each step costs
//! guest instructions at every start, so nothing is done here that only some containers need.

use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot};

use crate::{log, sys};

/// A step of the boot failed: the guest is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct BootError {
    step: &'static str,
    #[source]
    errno: Errno,
}

/// What the kernel did not mount: source and type, target, flags, data.
const MOUNTS: [(&str, &str, MsFlags, Option<&str>); 5] = [
    ("proc", "/proc", HARMLESS, None),
    ("devtmpfs", "/dev", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC), None),
    ("tmpfs", "/run", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), Some("mode=755")),
    ("sysfs", "/sys", HARMLESS, None),
    ("cgroup2", "/sys/fs/cgroup", HARMLESS, None),
];
const HARMLESS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Puts a mount of the initramfs over itself. The initial root has no parent mount, and pivot_root(2) needs one.
pub fn first() -> Result<(), BootError> {
    let step = |step| move |errno| BootError { step, errno };
    let none = None::<&str>;
    mount(Some("/"), "/run", none, MsFlags::MS_BIND, none).map_err(step("bind the initramfs"))?;
    chdir("/run").map_err(step("enter the bound initramfs"))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(step("move the bound initramfs"))?;
    chroot(".").map_err(step("take the bound initramfs as root"))?;
    chdir("/").map_err(step("enter the root"))
}

/// Files that the agent may have open. A process that it begins costs it some ten while it is begun, and four or so as long as it
/// runs; each process gets the limits of its caller on the host.
const OPEN_FILES: u64 = 1 << 16;

/// The agent's own limits: the kernel's are for a process that has one thing to do.
pub fn make_room() -> Result<(), BootError> {
    sys::set_limit(libc::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        .map_err(|errno| BootError { step: "allow open files", errno })
}

/// The usual file systems and the loopback interface.
pub fn rest() -> Result<(), BootError> {
    for (filesystem, target, flags, data) in MOUNTS {
        match mount(Some(filesystem), target, Some(filesystem), flags, data) {
            // The very same file system is there already.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(errno) => return Err(BootError { step: target, errno }),
        }
    }
    if let Err(errno) = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .and_then(|socket| sys::bring_up(socket, c"lo"))
    {
        log::failure("bring up lo", &errno);
    }
    Ok(())
}

/// No process of a container can write the agent's binary, even if one gets hold of a helper's `/proc/PID/exe`
/// (CVE-2019-5736). After [`rest`], which needs the mount points.
pub fn seal() -> Result<(), BootError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|errno| BootError { step: "make the initramfs read-only", errno })
}

/// A directory of the agent's own, closed to everybody else.
pub fn private_directory(path: &str) -> Result<(), Errno> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(errno(&error)),
        Ok(()) | Err(_) => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| errno(&error))
        }
    }
}

/// The number in an error of the standard library.
pub fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The kernel starts pid 1 without descriptors where there is no console: nothing else may become 0, 1 or 2.
pub fn occupy_stdio() -> Result<(), Errno> {
    loop {
        let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        if root.as_raw_fd() > 2 {
            return Ok(());
        }
        // Kept for the life of the process.
        let _ = root.into_raw_fd();
    }
}
