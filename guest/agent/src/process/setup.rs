//! `process`: who runs, where, with which rights and limits. The same for the first process and for an exec.
//!
//! In: the spec's process, in its root and namespaces. Out: what execve needs, the command found. Order matters: what
//! needs privileges comes before the user, what the user's rights decide (cwd, lookup) after it.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use msb_agent::protocol::{Capabilities, Failure, Process, Seccomp};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, fchown, getcwd, setgroups, setresgid, setresuid, setsid};

use super::lookup::{self, Ready};
use super::{capabilities, environment, rlimits, schedule, user};
use crate::container::beneath::{Beneath, Kind};
use crate::container::{at, plain};
use crate::sys;

/// When the spec has none, as runc.
const UMASK: u32 = 0o022;

/// Becomes the user and finds the command.
///
/// # Errors
/// [`Failure::Command`] for a command that can't be run, else [`Failure::Setup`] with the step.
pub fn prepare(mut process: Process) -> Result<Ready, Failure> {
    if process.terminal.is_none() {
        // With a terminal the session was begun when it was taken.
        setsid().map_err(plain).map_err(at(|| "begin a session".into()))?;
        own_pipes(process.user.uid);
    }
    rlimits::set(&process)?;
    schedule::set(&process)?;
    environment::only_last(&mut process.env);
    user::add_home(&mut process.env, process.user.uid);
    capabilities::bound(process.capabilities.as_ref())?;
    // As root first: a directory that its user can't reach is fine as long as it is given (runc does the same).
    let entered = chdir(Path::new(&process.cwd));
    become_user(&process)?;
    if entered.is_err() {
        chdir(Path::new(&process.cwd)).map_err(|errno| unreachable(&process, errno))?;
    }
    inside(&process)?;
    // A filter needs either: then it comes as late as it can.
    let admin = process.seccomp.is_some() && !process.no_new_privileges;
    capabilities::apply(process.capabilities.as_ref(), admin)?;
    if process.no_new_privileges {
        prctl::set_no_new_privs().map_err(plain).map_err(at(|| "set no_new_privs".into()))?;
    }
    let program = lookup::find(&process)?;
    Ok(Ready {
        command: process.args.first().cloned().unwrap_or_default(),
        program,
        args: strings(&process.args, "args")?,
        env: strings(&process.env, "env")?,
        filter: process.seccomp.map(|seccomp| Filter { seccomp, admin, capabilities: process.capabilities }),
    })
}

/// The filter of system calls, with what installing it takes.
#[derive(Debug)]
pub struct Filter {
    seccomp: Seccomp,
    admin: bool,
    capabilities: Option<Capabilities>,
}

impl Filter {
    /// Installs it. Afterwards nothing but execve is called, and capset where no_new_privs is not set.
    ///
    /// # Errors
    /// [`Failure::Setup`].
    pub fn install(&self) -> Result<(), Failure> {
        let install = || {
            sys::install_filter(&self.seccomp)
                .map_err(plain)
                .map_err(at(|| "install the seccomp filter".into()))
        };
        if self.admin {
            let last = capabilities::be_admin(self.capabilities.as_ref())?;
            install()?;
            last.finish()
        } else {
            install()
        }
    }
}

/// Makes the first process's working directory, as root, where it is missing.
///
/// # Errors
/// [`Failure::Setup`].
pub fn make_cwd(root: &Beneath, cwd: &str) -> Result<(), Failure> {
    match root.ensure(Path::new(cwd), Kind::Directory) {
        // A read-only file system or a file in the way: chdir will say so.
        Ok(_) | Err(Errno::EROFS | Errno::ENOTDIR) => Ok(()),
        Err(errno) => {
            Err(crate::container::setup(format!("make the working directory {cwd:?}"), &plain(errno)))
        }
    }
}

fn become_user(process: &Process) -> Result<(), Failure> {
    let user = &process.user;
    umask(Mode::from_bits_truncate(user.umask.unwrap_or(UMASK) & 0o777));
    prctl::set_keepcaps(true).map_err(plain).map_err(at(|| "keep capabilities".into()))?;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(plain).map_err(at(|| "set the additional groups".into()))?;
    let gid = Gid::from_raw(user.gid);
    setresgid(gid, gid, gid).map_err(plain).map_err(at(|| format!("become group {gid}")))?;
    let uid = Uid::from_raw(user.uid);
    setresuid(uid, uid, uid).map_err(plain).map_err(at(|| format!("become user {uid}")))?;
    prctl::set_keepcaps(false).map_err(plain).map_err(at(|| "keep capabilities".into()))
}

/// The directory must be within the root: the kernel says "(unreachable)" otherwise (CVE-2024-21626).
fn inside(process: &Process) -> Result<(), Failure> {
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) => Err(crate::container::setup(cwd(process), &"outside of the container")),
        // Its parents may be closed to the user.
        Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(unreachable(process, errno)),
    }
}

/// In runc's words, which are Go's: Docker makes exit codes of them.
fn unreachable(process: &Process, errno: Errno) -> Failure {
    crate::container::setup(cwd(process), &errno.desc().to_lowercase())
}

fn cwd(process: &Process) -> String {
    format!("chdir to cwd ({:?}) set in config.json failed", process.cwd)
}

/// `/dev/stdout` can only be opened by the pipe's owner.
fn own_pipes(uid: u32) {
    if uid == 0 {
        return;
    }
    for descriptor in [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let pipe =
            nix::sys::stat::fstat(descriptor).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if pipe {
            // Only a nicety: without it everything but reopening works.
            let _ = fchown(descriptor, Some(Uid::from_raw(uid)), None);
        }
    }
}

fn strings(words: &[String], what: &str) -> Result<Vec<CString>, Failure> {
    words
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(at(|| format!("read {what}")))
}
