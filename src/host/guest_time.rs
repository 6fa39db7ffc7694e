//! How long a process and its children have run virtual processors: a sandbox's has its machine in one.

use std::{fs, time::Duration};

/// `USER_HZ`: clock ticks of /proc in a second, on every architecture that has KVM.
const TICKS: u64 = 100;

/// Of the process `pid`, which was there at the time, and its children; to the tick.
#[must_use]
pub fn of(pid: u32) -> Option<Duration> {
    let stat = |pid: u32| ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    let own = stat(pid)?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|child| stat(child.parse().ok()?));
    let all = children.fold(own, u64::saturating_add);
    Some(Duration::from_millis(all.saturating_mul(1000 / TICKS)))
}

/// Field 43 (`guest_time`) of proc_pid_stat(5). Field 2, the name, is in brackets and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    // Field 3 is the first of the rest.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(40)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_field_43() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        assert_eq!(ticks(&format!("7 (a) b) S {}", fields.join(" "))), Some(43));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(of(std::process::id()), Some(Duration::ZERO));
    }
}
