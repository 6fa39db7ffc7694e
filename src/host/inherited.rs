//! What a process has of its caller: limits of resources (getrlimit(2)) and the OOM score adjustment (proc(5)).
//!
//! A process that runc starts has them by inheritance where its configuration says nothing; one in a guest inherits
//! nothing of the host, so they are brought along.

use nix::sys::resource::{Resource, getrlimit};

/// Names of the OCI runtime-spec (config.md, "rlimits") and what they limit.
const ALL: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

/// One limit of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_NOFILE`, …
    pub name: &'static str,
    /// Soft limit; `RLIM_INFINITY` is none.
    pub soft: u64,
    /// Hard limit, likewise.
    pub hard: u64,
}

/// All limits that the kernel knows.
#[must_use]
pub fn limits() -> Vec<Limit> {
    ALL.into_iter()
        .filter_map(|(name, resource)| {
            let (soft, hard) = getrlimit(resource).ok()?;
            Some(Limit { name, soft, hard })
        })
        .collect()
}

/// `oom_score_adj` of this process; none where `/proc` does not tell.
#[must_use]
pub fn oom_score_adj() -> Option<i32> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_that_the_kernel_shows() {
        let shown = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = shown.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let all = limits();
        let files = all.iter().find(|limit| limit.name == "RLIMIT_NOFILE").unwrap();
        assert_eq!(numbers, [files.soft, files.hard]);
        assert_eq!(all.len(), ALL.len());
    }
}
