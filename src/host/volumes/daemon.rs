//! virtiofsd: where it is, and how it is run.
//!
//! | option | why |
//! |---|---|
//! | `--sandbox=namespace` | its root becomes the tree; a pid and a network namespace of its own |
//! | `--seccomp=kill` | what no file system needs ends it |
//! | `--modcaps=…` | without CAP_MKNOD or CAP_SETFCAP where the container has none |
//! | `--inode-file-handles=never` | it could otherwise open any file of a volume's file system: see [`super`] |
//! | `--cache=auto` | names and attributes are believed for a second, data until the file is opened anew or has another time of change; `never` would forbid shared mmap, `always` would miss what the host writes |
//! | no `--writeback` | what the guest has written is on the host when write(2) returns |
//! | `--announce-submounts` | files of different file systems of the host have different device numbers |
//! | `--xattr --posix-acl` | as on the host; permissions are judged by the guest's kernel, which must see the ACLs (and does so beneath another virtiofs by an edit of ours: `integration/src/kernel/config.rs`) |
//! | `--thread-pool-size=0` | one request after the other, in the order of the queue, which the VMM relies on when it is lost; a pool costs each request a hand-over |
//! | `--log-level=error` | what it says is kept for an error text only |

use std::{
    ffi::OsString,
    os::unix::process::{CommandExt, parent_id},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{prctl, signal::Signal},
};

use super::{Share, source::errno, tree};
use crate::host::fds;

/// Why volumes can't be served.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It is not installed.
    #[error(
        "{}, which serves volumes, is not there: install Debian's package virtiofsd, or name another with \
         `virtiofsd` in /etc/msb/config.toml", path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It can't be run.
    #[error("{} can't be run (errno {errno}): install Debian's package virtiofsd anew", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// Linux error number: the kernel's words would be taken for the command's.
        errno: i32,
    },
    /// There is nothing to serve.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// It would not end with its parent.
    #[error("The process for the volumes can't be bound to the life of the VMM")]
    Life(#[source] Errno),
    /// Its descriptors.
    #[error("The process for the volumes can't be given its socket")]
    Descriptors(#[source] Errno),
}

/// Whether volumes can be served.
///
/// # Errors
/// [`DaemonError::Missing`]
pub fn check(program: &Path) -> Result<(), DaemonError> {
    if program.is_file() { Ok(()) } else { Err(DaemonError::Missing { path: program.to_owned() }) }
}

/// Makes the tree and becomes virtiofsd. The caller has one thread and inherited the descriptors of `share`.
///
/// # Errors
/// It returns only with one.
pub fn become_daemon(share: &Share) -> DaemonError {
    match prepare(share) {
        Ok(()) => {
            let error = Command::new(&share.program).args(arguments(share)).env_clear().exec();
            DaemonError::Run { path: share.program.clone(), errno: errno(&error) }
        }
        Err(error) => error,
    }
}

fn prepare(share: &Share) -> Result<(), DaemonError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(DaemonError::Life)?;
    if i64::from(parent_id()) != i64::from(share.parent) {
        // It ended before the line above.
        return Err(DaemonError::Life(Errno::ESRCH));
    }
    tree::make(share)?;
    // The sources' descriptors lead out of the tree: of all, only the socket is kept.
    fds::forget_inherited().map_err(DaemonError::Descriptors)?;
    keep(share.listener).map_err(DaemonError::Descriptors)
}

#[allow(unsafe_code, reason = "a descriptor is known by its number alone")]
fn keep(number: i32) -> Result<(), Errno> {
    // SAFETY: it was inherited for the daemon; nothing in this process closes it.
    let listener = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

fn arguments(share: &Share) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "--sandbox=namespace",
        "--seccomp=kill",
        "--inode-file-handles=never",
        "--cache=auto",
        "--announce-submounts",
        "--xattr",
        "--posix-acl",
        "--thread-pool-size=0",
        "--log-level=error",
    ]
    .map(OsString::from)
    .to_vec();
    arguments.push(format!("--fd={}", share.listener).into());
    arguments.push("--shared-dir".into());
    arguments.push(share.place.clone().into());
    if !share.denied.is_empty() {
        let denied: Vec<String> = share.denied.iter().map(|name| format!("-{name}")).collect();
        arguments.push(format!("--modcaps={}", denied.join(":")).into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_taken_in_one_argument() {
        let share = Share {
            entries: Vec::new(),
            place: "/place".into(),
            listener: 7,
            program: "/usr/libexec/virtiofsd".into(),
            denied: vec!["mknod".into(), "setfcap".into()],
            parent: 1,
        };
        let arguments = arguments(&share);
        assert!(arguments.contains(&"--fd=7".into()));
        assert!(arguments.contains(&"--modcaps=-mknod:-setfcap".into()));
        let share = Share { denied: Vec::new(), ..share };
        assert!(!super::arguments(&share).iter().any(|word| word.to_string_lossy().contains("modcaps")));
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let error = check(Path::new("/nowhere/virtiofsd")).unwrap_err().to_string();
        assert!(error.contains("Debian's package virtiofsd") && error.contains("/nowhere/virtiofsd"));
    }
}
