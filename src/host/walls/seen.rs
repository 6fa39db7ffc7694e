//! What the kernel says of a process within walls, for people and tests.

use std::{fs, io};

/// The namespaces that it has for itself.
pub const NAMESPACES: [&str; 4] = ["mnt", "pid", "ipc", "uts"];

/// A process, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its user.
    pub uid: u32,
    /// Whether it has no capability in any set.
    pub powerless: bool,
    /// Whether it can't get new privileges.
    pub no_new_privs: bool,
    /// How many threads it has, and how many of them a seccomp filter holds.
    pub threads: usize,
    /// See there.
    pub filtered: usize,
    /// How many mounts it sees.
    pub mounts: usize,
    /// Which of [`NAMESPACES`] are others than the caller's. None: the caller may not look at those of another user, which takes
    /// CAP_SYS_PTRACE.
    pub namespaces: Option<Vec<&'static str>>,
    /// How many descriptors it can have at most.
    pub descriptors: u64,
    /// How many processes and threads its user can have.
    pub processes: u64,
    /// How long a core of it can be, in bytes.
    pub core: u64,
}

impl Seen {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (status, mounts, limits) = (read("status")?, read("mountinfo")?, read("limits")?);
        let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
        let (mut threads, mut filtered) = (0, 0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            threads += 1;
            filtered += usize::from(field(&status, "Seccomp:") == "2");
        }
        let namespaces = match namespaces(pid) {
            Ok(others) => Some(others),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            uid: field(&status, "Uid:").parse().map_err(|_| io::ErrorKind::InvalidData)?,
            powerless: sets.iter().all(|set| u64::from_str_radix(field(&status, set), 16) == Ok(0)),
            no_new_privs: field(&status, "NoNewPrivs:") == "1",
            threads,
            filtered,
            mounts: mounts.lines().count(),
            namespaces,
            descriptors: hard(&limits, "Max open files")?,
            processes: hard(&limits, "Max processes")?,
            core: hard(&limits, "Max core file size")?,
        })
    }
}

/// Those that are others than the caller's.
fn namespaces(pid: u32) -> io::Result<Vec<&'static str>> {
    let of = |pid: &str, name| fs::read_link(format!("/proc/{pid}/ns/{name}"));
    let mut others = Vec::new();
    for name in NAMESPACES {
        if of(&pid.to_string(), name)? != of("self", name)? {
            others.push(name);
        }
    }
    Ok(others)
}

/// The first word behind a name.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or_default()
}

/// The second number in a line of limits: the first can be raised to it.
fn hard(limits: &str, name: &str) -> io::Result<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    match line.and_then(|line| line.split_whitespace().nth(1)) {
        Some("unlimited") => Ok(u64::MAX),
        Some(number) => number.parse().map_err(|_| io::ErrorKind::InvalidData.into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_hard_ones() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max core file size        0                    unlimited            bytes     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(hard(limits, "Max core file size").unwrap(), u64::MAX);
        assert_eq!(hard(limits, "Max open files").unwrap(), 524_288);
        assert!(hard(limits, "Max processes").is_err());
    }

    #[test]
    fn this_process_is_not_within_walls() {
        let seen = Seen::of(std::process::id()).unwrap();
        assert_eq!((seen.filtered, seen.namespaces.as_deref()), (0, Some([].as_slice())), "{seen:?}");
        assert!(seen.threads >= 1 && seen.mounts > 1);
    }
}
