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
    /// What a second process costs at most, where there is one: the part of the smaller one's overhead that it alone has.
    #[serde(default)]
    pub second_kib: u64,
}

/// Looks at process `pid`, whose guest has `guest_mib` of RAM, and at those of its children that are the same program: our
/// sandboxes have the machine in one.
///
/// # Errors
/// When the process is gone or is not ours to look at.
pub fn of(pid: u32, guest_mib: u64) -> io::Result<Memory> {
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let (mut memory, mut alone) = of_one(pid, guest_mib)?;
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        if fs::read_link(format!("/proc/{child}/exe")).is_ok_and(|exe| exe == program) {
            let (one, one_alone) = of_one(child, guest_mib)?;
            let Memory { overhead_kib, anonymous_kib, guest_kib, threads, second_kib: _ } = one;
            alone = alone.min(one_alone);
            memory.second_kib = alone;
            memory.overhead_kib += overhead_kib;
            memory.anonymous_kib += anonymous_kib;
            memory.guest_kib += guest_kib;
            memory.threads += threads;
        }
    }
    Ok(memory)
}

/// A process, and how much of its overhead it shares with nobody.
fn of_one(pid: u32, guest_mib: u64) -> io::Result<(Memory, u64)> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count();
    let (memory, alone) = parse(&smaps, guest_mib << 10);
    Ok((Memory { threads: u64::try_from(threads).unwrap_or(u64::MAX), ..memory }, alone))
}

/// One mapping of `smaps`, in KiB.
#[derive(Debug, Default)]
struct Mapping {
    range: (u64, u64),
    size: u64,
    rss: u64,
    pss: u64,
    anonymous: u64,
    private: u64,
}

/// A mapping as large as half of the guest's RAM is guest RAM: nothing else of a VMM is. The kernel may have split it:
/// what touches it belongs to it, as far as there is RAM left.
fn parse(smaps: &str, guest_kib: u64) -> (Memory, u64) {
    let mappings = mappings(smaps);
    let large = mappings.iter().filter(|mapping| mapping.size >= guest_kib / 2);
    let mut guest: Vec<(u64, u64)> = large.clone().map(|mapping| mapping.range).collect();
    let mut left = guest_kib.saturating_sub(large.map(|mapping| mapping.size).sum());
    let (mut memory, mut alone) = (Memory::default(), 0);
    for mapping in &mappings {
        let touches = guest.iter().any(|(start, end)| mapping.range.1 == *start || mapping.range.0 == *end);
        if touches && mapping.size <= left {
            left -= mapping.size;
            guest.push(mapping.range);
        }
        if guest.contains(&mapping.range) {
            memory.guest_kib += mapping.rss;
        } else {
            memory.overhead_kib += mapping.pss;
            memory.anonymous_kib += mapping.anonymous;
            alone += mapping.private;
        }
    }
    (memory, alone)
}

fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let range = line.split_whitespace().next().and_then(|word| word.split_once('-'));
        let address = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((Some(start), Some(end))) = range.map(|(start, end)| (address(start), address(end))) {
            mappings.push(Mapping { range: (start, end), ..Mapping::default() });
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let Some(kib) = value.trim().strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok())
        else {
            continue;
        };
        let Some(mapping) = mappings.last_mut() else { continue };
        match name {
            "Size" => mapping.size = kib,
            "Rss" => mapping.rss = kib,
            "Pss" => mapping.pss = kib,
            "Anonymous" => mapping.anonymous = kib,
            "Private_Clean" | "Private_Dirty" => mapping.private += kib,
            _ => {}
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest_by_its_size() {
        let smaps = "\
7effffe00000-7f0000000000 rw-p 00000000 00:00 0 \nSize: 2048 kB\nRss: 1000 kB\nPss: 1000 kB\nAnonymous: 1000 kB
7f0000000000-7f0007e00000 rw-p 00000000 00:00 0 \nSize: 129024 kB\nRss: 20480 kB\nPss: 20480 kB\nAnonymous: 20480 kB
560000000000-560000100000 r-xp 00000000 fe:00 7 /msb\nSize: 1024 kB\nRss: 800 kB\nPss: 400 kB\nAnonymous: 0 kB
560000200000-560000210000 rw-p 00000000 00:00 0 [heap]\nSize: 64 kB\nRss: 48 kB\nPss: 48 kB\nPrivate_Clean: 8 kB\nPrivate_Dirty: 40 kB\nAnonymous: 48 kB\n";
        let expected =
            Memory { overhead_kib: 448, anonymous_kib: 48, guest_kib: 21480, threads: 0, second_kib: 0 };
        assert_eq!(parse(smaps, 128 << 10), (expected, 48));
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let memory = of(std::process::id(), 1 << 20).unwrap();
        assert!(memory.overhead_kib > 0 && memory.anonymous_kib > 0 && memory.threads > 0);
        assert_eq!(memory.guest_kib, 0);
    }
}
