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
//! | `--killpriv-v2` | a write takes set-user-ID and capabilities away here, as any write does: the guest need not ask before each whether there are any, one request of six for a small file |
//! | `--thread-pool-size=0` | one request after the other, in the order of the queue, which the VMM relies on when it is lost; a pool costs each request a hand-over |
//! | `--log-level=error` | what it says is kept for an error text only |
//!
//! Before that it leaves the host's ipc and uts namespaces, and is held to this:
//!
//! | held to | why |
//! |---|---|
//! | no descriptor but stdio and its socket | the sources' lead out of the tree |
//! | its parent's life | it is killed with it, and then what it has forked ends; were that somebody else's by then, the container's cgroup still has it |
//! | no new privileges | from its first instruction, not from when it loads its filter |
//! | no core | it may have any of the volumes' bytes in memory |
//! | a million descriptors | without handles it has one for each file that the guest remembers: with fewer a large tree can't be walked. Its own choice, unless its caller may have more, which then it would have, too: containerd's and Docker's services may have a thousand times as many |
//! | its caller's length of files | a volume's may have any; a write beyond is an error of the guest's and not the daemon's end |
//!
//! A limit of processes would be none: they are counted by user, and this one is root.

use std::{
    ffi::OsString,
    os::unix::process::{CommandExt, parent_id},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
};

use super::{Share, source::errno, tree};
use crate::host::fds;

/// Descriptors that it may have open, where its caller may have so many. It raises a lower limit to the same if it can.
const DESCRIPTORS: u64 = 1_000_000;
/// Major and minor version of the oldest that this was tried with.
const OLDEST: (u32, u32) = (1, 10);

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
    /// It is too old.
    #[error(
        "{} is version {version}, and 1.10 is the oldest that serves volumes: install Debian 13's package virtiofsd, or \
         name another with `virtiofsd` in /etc/msb/config.toml", path.display()
    )]
    Old {
        /// The program.
        path: PathBuf,
        /// As it says.
        version: String,
    },
    /// It is another program.
    #[error(
        "{} does not say what version of virtiofsd it is (--version): QEMU's old one and others can't serve volumes. \
         Install Debian 13's package virtiofsd, or name another with `virtiofsd` in /etc/msb/config.toml", path.display()
    )]
    Foreign {
        /// The program.
        path: PathBuf,
    },
    /// There is nothing to serve.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// It would not end with its parent.
    #[error("The process for the volumes can't be bound to the life of the VMM")]
    Life(#[source] Errno),
    /// It would not be held to its limits.
    #[error("The process for the volumes can't be limited")]
    Limits(#[source] Errno),
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

/// The same, by asking it; its version.
///
/// # Errors
/// [`DaemonError::Missing`], [`DaemonError::Run`], [`DaemonError::Old`], [`DaemonError::Foreign`]
pub fn probe(program: &Path) -> Result<String, DaemonError> {
    check(program)?;
    let path = program.to_owned();
    let asked = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output();
    let said = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return Err(DaemonError::Run { path, errno: errno(&error) }),
    };
    match version(&said) {
        Some((found, text)) if found >= OLDEST => Ok(text.to_owned()),
        Some((_, text)) => Err(DaemonError::Old { path, version: text.to_owned() }),
        None => Err(DaemonError::Foreign { path }),
    }
}

/// Of `virtiofsd 1.13.2`; older ones have a word between. QEMU's, of another line of versions, goes on behind its own.
fn version(said: &str) -> Option<((u32, u32), &str)> {
    let line = said.lines().next()?.trim();
    let text = line.strip_prefix("virtiofsd ")?.rsplit(' ').next()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some(((numbers.next()??, numbers.next()??), text))
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
    limit().map_err(DaemonError::Limits)?;
    // The sources' descriptors lead out of the tree: of all, only the socket is kept.
    fds::forget_inherited().map_err(DaemonError::Descriptors)?;
    keep(share.listener).map_err(DaemonError::Descriptors)
}

#[allow(unsafe_code, reason = "a signal's handler")]
fn limit() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = most.min(DESCRIPTORS);
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // It outlives execve, and whoever it forks has it too.
    // SAFETY: to ignore a signal runs nothing.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
    prctl::set_no_new_privs()
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
        "--killpriv-v2",
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
            room: 0,
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

    /// Of a caller with this limit, or its own.
    #[test]
    #[allow(unsafe_code, reason = "what a program is held to is done in its process before it")]
    fn what_it_is_held_to_outlives_the_program() {
        let held = |most: u64| {
            let mut command = Command::new("cat");
            command.args(["/proc/self/limits", "/proc/self/status"]);
            let hold = move || -> std::io::Result<()> {
                let (_, before) = getrlimit(Resource::RLIMIT_NOFILE)?;
                setrlimit(Resource::RLIMIT_NOFILE, most.min(before), most.min(before))?;
                Ok(limit()?)
            };
            // SAFETY: the child calls the kernel alone.
            let said = unsafe { command.pre_exec(hold) }.output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let told = |said: &str, name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let (_, before) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let said = held(u64::MAX);
        assert_eq!(told(&said, "Max open files"), vec![before.min(DESCRIPTORS).to_string(); 2]);
        assert_eq!(told(&said, "Max core file size"), ["0", "0"]);
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert_eq!(told(&said, "Max file size"), told(&own, "Max file size"));
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(field("NoNewPrivs:"), "1");
        let ignored = u64::from_str_radix(field("SigIgn:"), 16).unwrap();
        assert_ne!(ignored & 1 << (Signal::SIGXFSZ as i32 - 1), 0);
        // A lower one is not raised.
        assert_eq!(told(&held(500), "Max open files"), ["500", "500"]);
    }

    #[test]
    fn versions() {
        assert_eq!(version("virtiofsd 1.13.2\n"), Some(((1, 13), "1.13.2")));
        assert_eq!(version("virtiofsd backend 1.6.1\n"), Some(((1, 6), "1.6.1")));
        for other in
            ["virtiofsd version 7.2.15 (Debian 1:7.2+dfsg-7)\nusing FUSE", "true 9.1", "", "virtiofsd x"]
        {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_that_is_another_is_told() {
        assert!(matches!(probe(Path::new("/bin/true")), Err(DaemonError::Foreign { .. })));
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let error = check(Path::new("/nowhere/virtiofsd")).unwrap_err().to_string();
        assert!(error.contains("Debian's package virtiofsd") && error.contains("/nowhere/virtiofsd"));
    }
}
