//! What the host has counted for the cgroup: the machine as a whole, its guest's work and its own.

use std::{fs, path::Path};

use super::{Cgroup, Version};

/// Processor time, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// All of it.
    pub usage: u64,
    /// Of it, what was neither the kernel's nor unknown.
    pub user: u64,
    /// Of it, the kernel's. A guest's work is counted as its VMM's.
    pub system: u64,
}

impl Cgroup {
    /// Whether the host has version 2 alone.
    #[must_use]
    pub fn is_version_2(&self) -> bool {
        self.directories.iter().all(|one| one.version == Version::Two)
    }

    /// Processor time of all that is and was in it; `None` where it is not counted.
    #[must_use]
    pub fn cpu_time(&self) -> Option<CpuTime> {
        self.directories.iter().find_map(|one| match one.version {
            Version::Two => version_2(&fs::read_to_string(one.path.join("cpu.stat")).ok()?),
            Version::One => version_1(&one.path),
        })
    }
}

/// `cpu.stat` (kernel, `Documentation/admin-guide/cgroup-v2.rst`).
fn version_2(stat: &str) -> Option<CpuTime> {
    let value = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    Some(CpuTime { usage: value("usage_usec")?, user: value("user_usec")?, system: value("system_usec")? })
}

/// `cpuacct.usage*`, which are in nanoseconds (kernel, `Documentation/admin-guide/cgroup-v1/cpuacct.rst`).
fn version_1(directory: &Path) -> Option<CpuTime> {
    let microseconds = |name: &str| {
        let text = fs::read_to_string(directory.join(name)).ok()?;
        Some(text.trim().parse::<u64>().ok()? / 1000)
    };
    Some(CpuTime {
        usage: microseconds("cpuacct.usage")?,
        user: microseconds("cpuacct.usage_user")?,
        system: microseconds("cpuacct.usage_sys")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_in_microseconds() {
        let told = CpuTime { usage: 12, user: 7, system: 5 };
        assert_eq!(version_2("usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 0\n"), Some(told));
        assert_eq!(version_2("nr_periods 0\n"), None);
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in
            [("cpuacct.usage", "12345\n"), ("cpuacct.usage_user", "7000\n"), ("cpuacct.usage_sys", "5999\n")]
        {
            assert_eq!(version_1(dir.path()), None);
            fs::write(dir.path().join(name), value).unwrap();
        }
        assert_eq!(version_1(dir.path()), Some(told));
    }
}
