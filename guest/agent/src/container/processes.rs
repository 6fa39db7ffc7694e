//! The container's processes, as `ps` shows them: `/proc/PID` of each, read by the agent.
//!
//! A process writes its own name and arguments, and may end while it is read: nothing of it is trusted, everything is
//! bounded, and what ends meanwhile is left out.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use msb_agent::protocol::ProcessInfo;
use nix::unistd::{SysconfVar, sysconf};

use super::cgroup::files;

/// `/proc/PID/stat` in bytes; the kernel writes less than a kilobyte.
const STAT: u64 = 4096;
/// Units of times in `/proc` per second on every architecture of Linux (`USER_HZ`, proc_pid_stat(5)).
const USER_HZ: u64 = 100;

/// What is known of each of `pids`, in their order.
pub fn describe(pids: &[u32]) -> Vec<ProcessInfo> {
    let boot = boot_time();
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    let mut room = ProcessInfo::MAX_ALL_ARGS;
    let one = |pid: &u32| {
        let stat = read(*pid, "stat", STAT)?;
        let mut info = parse(*pid, &String::from_utf8_lossy(&stat), boot, page.unwrap_or(4096))?;
        info.uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        if room > 0 {
            let limit = u64::try_from(ProcessInfo::MAX_ARGS).unwrap_or(u64::MAX);
            let args = arguments(&read(*pid, "cmdline", limit).unwrap_or_default());
            let bytes = args.iter().map(|word| word.len() + 1).sum();
            match room.checked_sub(bytes) {
                Some(rest) => (room, info.args) = (rest, args),
                None => room = 0,
            }
        }
        Some(info)
    };
    pids.iter().filter_map(one).take(ProcessInfo::MAX).collect()
}

fn read(pid: u32, name: &str, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `btime` of `/proc/stat`, in seconds since 1970.
fn boot_time() -> u64 {
    // The line comes after those of the processors and of all interrupts.
    files::read_path("/proc/stat").map_or(0, |text| files::value(&text, "btime"))
}

/// proc_pid_stat(5). The name is in parentheses and may hold more of them: the last one ends it.
fn parse(pid: u32, stat: &str, boot: u64, page: u64) -> Option<ProcessInfo> {
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(start + 1..end)?.to_owned();
    let fields: Vec<&str> = stat.get(end + 1..)?.split_whitespace().collect();
    // Fields are counted from 1, and the state, after the name, is the third.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    Some(ProcessInfo {
        pid,
        parent: field(4)?.parse().ok()?,
        uid: 0,
        state: field(3)?.chars().next()?,
        name,
        args: Vec::new(),
        started: boot + number(22)? / USER_HZ,
        cpu: (number(14)?.saturating_add(number(15)?)).saturating_mul(1000 / USER_HZ),
        resident: number(24)?.saturating_mul(page),
    })
}

/// Each ends with a NUL; a process may have written something else there.
fn arguments(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat =
            "7 (a) R (b c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 12345 4096 3 1844 1 1 0 0 0\n";
        let info = parse(7, stat, 1_000, 4096).unwrap();
        assert_eq!((info.name.as_str(), info.state, info.parent), ("a) R (b c", 'S', 1));
        assert_eq!((info.started, info.cpu, info.resident), (1_123, 3_000, 3 * 4096));
        for broken in ["", "7 (x", "7 (x) S 1 2", ")("] {
            assert_eq!(parse(7, broken, 0, 4096), None, "{broken:?}");
        }
    }

    #[test]
    fn words_end_with_a_nul() {
        assert_eq!(arguments(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(arguments(b"title without an end"), ["title without an end"]);
        assert_eq!(arguments(b""), Vec::<String>::new());
    }

    #[test]
    fn this_process_is_found() {
        let found = describe(&[std::process::id(), u32::MAX]);
        let [me] = &found[..] else { panic!("{found:?}") };
        assert!(me.resident > 0 && me.started > 0 && !me.args.is_empty(), "{me:?}");
    }
}
