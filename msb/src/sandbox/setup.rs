//! What a sandbox is set up with beside its image and its sizes, in the words of Docker's flags: a host name, limits,
//! capabilities, file systems in memory.
//!
//! In: text of a caller's, checked here before anything is made of it. Out: parts of the `config.json`. It must never know how
//! the guest brings them about.

use std::path::{Component, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::BadRequest;

/// What Docker gives to who asks for nothing.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The others that there are (capabilities(7)).
const FURTHER: [&str; 27] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];
/// All of them, in a flag.
const ALL: &str = "ALL";
/// What setrlimit(2) knows, as Docker calls it.
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Of a tmpfs, as with Docker; what is asked for comes behind them.
const OF_TMPFS: [&str; 3] = ["noexec", "nosuid", "nodev"];
/// Options without a value that a tmpfs may have.
const WORDS: [&str; 12] = [
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "noatime",
    "relatime",
    "nodiratime",
    "sync",
];
/// Options with one (tmpfs(5)).
const VALUED: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
/// The kernel's limit of a host name (uname(2)).
const LONGEST: usize = 64;
/// Of Docker's `/dev/shm`.
const SHM: u64 = 64 << 20;

/// What is asked for beyond the usual.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// What it calls itself; none: its name.
    pub hostname: Option<String>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether its root can't be written to.
    pub read_only: bool,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// What its processes may have of something.
    pub ulimits: Vec<Ulimit>,
    /// Whether the guest's own first process takes care of what others leave, in place of the sandbox's.
    pub init: bool,
    /// Capabilities, without `CAP_`.
    pub cap_add: Vec<String>,
    /// The same, taken away.
    pub cap_drop: Vec<String>,
    /// Bytes of the disk for what it writes.
    pub disk: Option<u64>,
}

/// A directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where: absolute, without `..`.
    pub target: PathBuf,
    /// As mount(8) takes them.
    pub options: Vec<String>,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As Docker calls it: `nofile`.
    pub name: String,
    /// What counts; `u64::MAX`: there is none.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

/// A path inside that needs nobody's help to be found.
pub(super) fn inside(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && !climbs && !text.contains('\0')).then_some(path)
}

impl Tmpfs {
    /// From what Docker's `--tmpfs` takes: `PATH[:OPTIONS]`.
    ///
    /// # Errors
    /// [`BadRequest::Tmpfs`].
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Tmpfs(text.to_owned());
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let options: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let known = |option: &String| match option.split_once('=') {
            Some((name, value)) => VALUED.contains(&name) && !value.is_empty(),
            None => WORDS.contains(&option.as_str()),
        };
        if !options.iter().all(known) {
            return Err(bad());
        }
        Ok(Self { target: inside(target).filter(|path| path.parent().is_some()).ok_or_else(bad)?, options })
    }
}

impl Ulimit {
    /// From what Docker's `--ulimit` takes: `NAME=SOFT[:HARD]`.
    ///
    /// # Errors
    /// [`BadRequest::Ulimit`].
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let bad = || BadRequest::Ulimit(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(bad)?;
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            number => number.parse().map_err(|_| bad()),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if !LIMITS.contains(&name) || soft > hard {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

/// A host's name, as Docker's `--hostname` takes it.
///
/// # Errors
/// [`BadRequest::Hostname`].
pub fn hostname(text: &str) -> Result<String, BadRequest> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let ends = |character: char| character == '-' || character == '.';
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(good) || text.starts_with(ends) {
        return Err(BadRequest::Hostname(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// A capability, with `CAP_` or without, in letters of any size; or `ALL`.
///
/// # Errors
/// [`BadRequest::Capability`].
pub fn capability(text: &str) -> Result<String, BadRequest> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == ALL || USUAL.contains(&bare) || FURTHER.contains(&bare) {
        return Ok(bare.to_owned());
    }
    Err(BadRequest::Capability(text.to_owned()))
}

impl Setup {
    /// As the runtime has them: what Docker gives, and with `ALL` all or none, less what is dropped, and what is added.
    pub(super) fn capabilities(&self) -> Vec<String> {
        let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
        let all = has(&self.cap_add, ALL);
        let wanted = |name: &&str| {
            let given = all || (USUAL.contains(name) && !has(&self.cap_drop, ALL));
            has(&self.cap_add, name) || (given && !has(&self.cap_drop, name))
        };
        USUAL.iter().chain(&FURTHER).copied().filter(wanted).map(|name| format!("CAP_{name}")).collect()
    }

    /// Of the first process, and so of all others.
    pub(super) fn rlimits(&self) -> Vec<Value> {
        let limit = |limit: &Ulimit| {
            let kind = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
            json!({ "type": kind, "soft": limit.soft, "hard": limit.hard })
        };
        self.ulimits.iter().map(limit).collect()
    }

    /// Of `/dev/shm`, in bytes.
    pub(super) fn shm(&self) -> u64 {
        self.shm_size.unwrap_or(SHM)
    }

    /// The directories in memory.
    pub(super) fn mounts(&self) -> Vec<Value> {
        let mount = |tmpfs: &Tmpfs| {
            let own = tmpfs.options.iter().map(String::as_str);
            let options: Vec<&str> = OF_TMPFS.into_iter().chain(own).collect();
            json!({ "destination": tmpfs.target, "type": "tmpfs", "source": "tmpfs", "options": options })
        };
        self.tmpfs.iter().map(mount).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| capability(name).unwrap()).collect()
    }

    #[test]
    fn capabilities_as_with_docker() {
        let of = |add: &[&str], drop: &[&str]| {
            Setup { cap_add: names(add), cap_drop: names(drop), ..Setup::default() }.capabilities()
        };
        assert_eq!(of(&[], &[]).len(), 14);
        assert_eq!(of(&[], &["all"]), Vec::<String>::new());
        assert_eq!(of(&["cap_net_admin"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(of(&["ALL"], &[]).len(), 41);
        let most = of(&["all"], &["SYS_ADMIN"]);
        assert!(most.len() == 40 && !most.contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(!of(&[], &["chown"]).contains(&"CAP_CHOWN".to_owned()));
        for bad in ["", "NET", "CAP_", "SYS ADMIN"] {
            capability(bad).unwrap_err();
        }
    }

    #[test]
    fn directories_in_memory() {
        let parsed = Tmpfs::parse("/run:size=64m,exec").unwrap();
        let setup = Setup { tmpfs: vec![parsed], ..Setup::default() };
        assert_eq!(
            setup.mounts()[0]["options"],
            json!(["noexec", "nosuid", "nodev", "size=64m", "exec"]),
            "the last one counts"
        );
        for bad in ["", "run", "/", "/a/../b", "/x:size", "/x:size=", "/x:lowerdir=/etc", "/x:bind"] {
            Tmpfs::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn limits_of_processes() {
        let one = |text| Ulimit::parse(text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(one("nofile=1024"), Ok((1024, 1024)));
        assert_eq!(one("core=0:-1"), Ok((0, u64::MAX)));
        for bad in ["", "nofile", "nofile=", "files=1", "nofile=2:1", "nofile=-1:1", "nofile=1:2:3"] {
            one(bad).unwrap_err();
        }
    }

    #[test]
    fn names_of_hosts() {
        assert_eq!(hostname("web-1.example").as_deref(), Ok("web-1.example"));
        for bad in ["", "-x", "a b", "a\nb", "a/b", &"x".repeat(65)] {
            hostname(bad).unwrap_err();
        }
    }
}
