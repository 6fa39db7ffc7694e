//! What a VMM keeps of the host's memory, less its guest's RAM.

use std::{fs, io};

use serde::{Deserialize, Serialize};

/// A VMM's memory, in KiB, from `/proc/PID/smaps`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Proportional set size of everything but the guest's RAM.
    pub overhead_kib: u64,
    /// The anonymous part of it.
    pub anonymous_kib: u64,
    /// Resident part of the guest's RAM.
    pub guest_kib: u64,
    /// Threads.
    pub threads: u64,
}

/// Looks at process `pid`, whose guest has `guest_mib` of RAM.
///
/// # Errors
/// When the process is gone or is not ours to look at.
pub fn of(pid: u32, guest_mib: u64) -> io::Result<Memory> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    Ok(Memory { threads: u64::try_from(threads).unwrap_or(u64::MAX), ..parse(&smaps, guest_mib << 10) })
}

/// A mapping as large as half of the guest's RAM is guest RAM: nothing else of a VMM is.
fn parse(smaps: &str, guest_kib: u64) -> Memory {
    let mut memory = Memory::default();
    let mut is_guest = false;
    for line in smaps.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let Some(kib) = value.trim().strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok())
        else {
            continue;
        };
        match (name, is_guest) {
            ("Size", _) => is_guest = kib >= guest_kib / 2,
            ("Rss", true) => memory.guest_kib += kib,
            ("Pss", false) => memory.overhead_kib += kib,
            ("Anonymous", false) => memory.anonymous_kib += kib,
            _ => {}
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest_by_its_size() {
        let smaps = "\
7f0000000000-7f0008000000 rw-p 00000000 00:00 0 \nSize: 131072 kB\nRss: 20480 kB\nPss: 20480 kB\nAnonymous: 20480 kB
560000000000-560000100000 r-xp 00000000 fe:00 7 /msb\nSize: 1024 kB\nRss: 800 kB\nPss: 400 kB\nAnonymous: 0 kB
560000200000-560000210000 rw-p 00000000 00:00 0 [heap]\nSize: 64 kB\nRss: 48 kB\nPss: 48 kB\nAnonymous: 48 kB\n";
        let expected = Memory { overhead_kib: 448, anonymous_kib: 48, guest_kib: 20480, threads: 0 };
        assert_eq!(parse(smaps, 128 << 10), expected);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let memory = of(std::process::id(), 1 << 20).unwrap();
        assert!(memory.overhead_kib > 0 && memory.anonymous_kib > 0 && memory.threads > 0);
        assert_eq!(memory.guest_kib, 0);
    }
}
