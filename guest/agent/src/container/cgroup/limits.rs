//! Limits → files of the cgroup, at create and while the container runs.

use std::io;

use msb_agent::protocol::{Amount, Failure, GuestLimits};

use super::files::{self, Files};
use super::setup;
use crate::container::plain;

/// What the guest's processors are.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Writes all that is given.
///
/// # Errors
/// [`Failure::Setup`] with the first file that refuses; those before it are written.
pub fn apply(cgroup: &Files, limits: &GuestLimits) -> Result<(), Failure> {
    if limits.check_memory
        && let Some(Amount::Of(limit)) = limits.memory
    {
        check_memory(cgroup, limit)?;
    }
    let plan = plan(limits, &cgroup.read("cpu.max").unwrap_or_default());
    let mut burst = None;
    for (file, value) in plan {
        match cgroup.write(&file, &value) {
            Ok(()) => {}
            // More than the quota there is now; the new one comes later.
            Err(error) if file == BURST && error.raw_os_error() == Some(libc::EINVAL) => burst = Some(value),
            Err(error) => return Err(refused(&file, &value, error)),
        }
    }
    burst
        .map_or(Ok(()), |value| cgroup.write(BURST, &value).map_err(|error| refused(BURST, &value, error)))?;
    limits.cpus.map_or(Ok(()), |count| hold_to(cgroup, count))
}

const BURST: &str = "cpu.max.burst";

/// Which files get what, in order. `cpu_max`: what that file holds now.
fn plan(limits: &GuestLimits, cpu_max: &str) -> Vec<(String, String)> {
    let mut plan = Vec::new();
    let mut set = |file: &str, value: Option<String>| {
        plan.extend(value.map(|value| (file.to_owned(), value)));
    };
    // Memory after what may take its place.
    set("memory.swap.max", limits.swap.map(|amount| amount.to_string()));
    set("memory.low", limits.reservation.map(|amount| amount.to_string()));
    set("memory.max", limits.memory.map(|amount| amount.to_string()));
    set("pids.max", limits.pids.map(|amount| amount.to_string()));
    // An idle cgroup takes no weight.
    set("cpu.idle", limits.cpu_idle.map(|idle| u8::from(idle).to_string()));
    set("cpu.weight", limits.cpu_weight.map(|weight| weight.to_string()));
    set(BURST, limits.cpu_burst.map(|burst| burst.to_string()));
    let quota = match (limits.cpu_quota, limits.cpu_period) {
        // The period stays what it is.
        (Some(quota), None) => Some(quota.to_string()),
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (None, Some(period)) => {
            let quota = cpu_max.split_whitespace().next().unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
        (None, None) => None,
    };
    set("cpu.max", quota);
    for pages in &limits.huge_pages {
        let limit = Some(pages.limit.to_string());
        set(&format!("hugetlb.{}.max", pages.page_size), limit.clone());
        set(&format!("hugetlb.{}.rsvd.max", pages.page_size), limit);
    }
    plan.extend(limits.unified.iter().cloned());
    plan
}

/// Not more than are used: the kernel would kill for the rest.
fn check_memory(cgroup: &Files, limit: u64) -> Result<(), Failure> {
    let used = cgroup.read("memory.current").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match used {
        Some(used) if used > limit => {
            Err(setup(format!("set memory.max to {limit}"), &format!("{used} bytes are in use")))
        }
        Some(_) | None => Ok(()),
    }
}

/// The first `count` of the processors there are.
fn hold_to(cgroup: &Files, count: u32) -> Result<(), Failure> {
    let online = files::read_path(ONLINE).unwrap_or_default();
    let Some(list) = first(&online, count) else { return Ok(()) };
    cgroup.write("cpuset.cpus", &list).map_err(|error| refused("cpuset.cpus", &list, error))
}

/// The first `count` of a list like `0-3,5`; none when it has no more.
fn first(online: &str, count: u32) -> Option<String> {
    let mut left = count.max(1);
    let mut taken = Vec::new();
    let mut more = false;
    for part in online.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
        if left == 0 {
            more = true;
            break;
        }
        let end = to.min(from.saturating_add(left - 1));
        more |= end < to;
        left -= (end.saturating_sub(from) + 1).min(left);
        taken.push(if end == from { from.to_string() } else { format!("{from}-{end}") });
    }
    // All of them: an empty list means the same, and stays right when processors come.
    Some(if more { taken.join(",") } else { "\n".into() })
}

fn refused(file: &str, value: &str, error: io::Error) -> Failure {
    let step = format!("set {file} to {value:?}");
    match error.kind() {
        io::ErrorKind::NotFound => setup(step, &"the guest's kernel has no such limit"),
        _ => setup(step, &plain(error)),
    }
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::HugePages;

    use super::*;

    #[test]
    fn every_limit_has_its_file() {
        let limits = GuestLimits {
            memory: Some(Amount::Of(64 << 20)),
            reservation: Some(Amount::Of(1)),
            swap: Some(Amount::Unlimited),
            pids: Some(Amount::Of(7)),
            cpu_weight: Some(39),
            cpu_idle: Some(true),
            cpu_quota: Some(Amount::Of(50_000)),
            cpu_period: Some(100_000),
            cpu_burst: Some(9),
            huge_pages: vec![HugePages { page_size: "2MB".into(), limit: 4 << 20 }],
            unified: vec![("memory.high".into(), "max".into())],
            ..GuestLimits::default()
        };
        let lines: Vec<_> =
            plan(&limits, "").into_iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            lines,
            [
                "memory.swap.max=max",
                "memory.low=1",
                "memory.max=67108864",
                "pids.max=7",
                "cpu.idle=1",
                "cpu.weight=39",
                "cpu.max.burst=9",
                "cpu.max=50000 100000",
                "hugetlb.2MB.max=4194304",
                "hugetlb.2MB.rsvd.max=4194304",
                "memory.high=max",
            ]
        );
    }

    #[test]
    fn quota_and_period_can_come_alone() {
        let quota = GuestLimits { cpu_quota: Some(Amount::Of(5)), ..GuestLimits::default() };
        assert_eq!(plan(&quota, "max 100000"), [("cpu.max".into(), "5".into())]);
        let period = GuestLimits { cpu_period: Some(20_000), ..GuestLimits::default() };
        assert_eq!(plan(&period, "7000 100000"), [("cpu.max".into(), "7000 20000".into())]);
        assert_eq!(plan(&period, ""), [("cpu.max".into(), "max 20000".into())]);
        assert_eq!(plan(&GuestLimits::default(), "max 100000"), []);
    }

    #[test]
    fn the_first_processors_of_those_there_are() {
        for (online, count, expected) in [
            ("0-3\n", 2, Some("0-1")),
            ("0-3", 1, Some("0")),
            ("0-3", 4, Some("\n")),
            ("0-3", 9, Some("\n")),
            ("0", 1, Some("\n")),
            ("0-1,4-7", 3, Some("0-1,4")),
            ("0,2", 1, Some("0")),
            ("0-3", 0, Some("0")),
            ("", 1, None),
        ] {
            assert_eq!(first(online, count).as_deref(), expected, "{online:?} {count}");
        }
    }
}
