//! Limits as the files of cgroup version 2 (kernel, `Documentation/admin-guide/cgroup-v2.rst`).

use super::Setting;
use crate::config::{Limits, RateKind, cpu_weight};

/// `cpu.max` and `cpu.cfs_period_us` where none is given, in microseconds.
pub(super) const DEFAULT_PERIOD: u64 = 100_000;

/// All files that `limits` concern.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut set = |file: &str, value: String| all.push(Setting::new("", file, value));
    if let Some(bytes) = limits.memory {
        set("memory.max", amount(bytes));
    }
    if let Some(bytes) = limits.reservation {
        set("memory.low", amount(bytes));
    }
    if let Some(both) = limits.swap {
        // Here swap alone is limited: of both together, what goes beyond memory.
        let swap =
            if both < 0 { both } else { both.saturating_sub(limits.memory.unwrap_or(0).max(0)).max(0) };
        set("memory.swap.max", amount(swap));
    }
    if let Some(shares) = limits.cpu_shares {
        set("cpu.weight", cpu_weight(shares).to_string());
    }
    if let Some(idle) = limits.cpu_idle {
        set("cpu.idle", idle.to_string());
    }
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = amount(limits.cpu_quota.unwrap_or(-1));
        set("cpu.max", format!("{quota} {}", limits.cpu_period.unwrap_or(DEFAULT_PERIOD)));
    }
    if let Some(burst) = limits.cpu_burst {
        set("cpu.max.burst", burst.to_string());
    }
    if let Some(cpus) = &limits.cpus {
        set("cpuset.cpus", cpus.clone());
    }
    if let Some(mems) = &limits.mems {
        set("cpuset.mems", mems.clone());
    }
    let default = limits.io_weight.map(|weight| ("default".to_owned(), weight));
    let single = limits
        .io_weights
        .iter()
        .map(|(device, weight)| (format!("{}:{}", device.major, device.minor), *weight));
    for (whose, weight) in default.into_iter().chain(single) {
        let io = io_weight(weight.into());
        let bfq = Setting::new("", "io.bfq.weight", format!("{whose} {weight}"));
        all.push(bfq.or("io.weight", format!("{whose} {io}")));
    }
    let mut set = |file: &str, value: String| all.push(Setting::new("", file, value));
    for rate in &limits.io_rates {
        let key = match rate.kind {
            RateKind::ReadBytes => "rbps",
            RateKind::WriteBytes => "wbps",
            RateKind::Reads => "riops",
            RateKind::Writes => "wiops",
        };
        set("io.max", format!("{}:{} {key}={}", rate.device.major, rate.device.minor, rate.amount));
    }
    for (file, value) in &limits.unified {
        set(file, value.clone());
    }
    all
}

/// Negative: no limit.
fn amount(bytes: i64) -> String {
    if bytes < 0 { "max".into() } else { bytes.to_string() }
}

/// BFQ's weight from 10 to 1000 on the scale of the other controller, from 1 to 10000, as runc and crun have it.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Device, Rate};

    fn lines(limits: &Limits) -> Vec<String> {
        settings(limits).iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn nothing_given_nothing_written() {
        assert!(settings(&Limits::default()).is_empty());
    }

    #[test]
    fn every_limit_has_its_file() {
        let device = Device { major: 8, minor: 16 };
        let limits = Limits {
            memory: Some(1000),
            reservation: Some(500),
            swap: Some(1500),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: None,
            cpu_burst: Some(7),
            cpu_idle: Some(1),
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
            io_weight: Some(100),
            io_weights: vec![(device, 20)],
            io_rates: vec![Rate { device, kind: RateKind::WriteBytes, amount: 9 }],
            unified: vec![("cpu.weight.nice".into(), "1".into())],
        };
        assert_eq!(
            lines(&limits),
            [
                "memory.max=1000",
                "memory.low=500",
                "memory.swap.max=500",
                "cpu.weight=39",
                "cpu.idle=1",
                "cpu.max=50000 100000",
                "cpu.max.burst=7",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "io.bfq.weight=default 100",
                "io.bfq.weight=8:16 20",
                "io.max=8:16 wbps=9",
                "cpu.weight.nice=1",
            ]
        );
    }

    #[test]
    fn no_limit_is_max() {
        let limits = Limits { memory: Some(-1), swap: Some(-1), cpu_quota: Some(-1), ..Limits::default() };
        assert_eq!(lines(&limits), ["memory.max=max", "memory.swap.max=max", "cpu.max=max 100000"]);
    }

    #[test]
    fn shares_cover_the_scale() {
        assert_eq!([0, 10, 100, 1000].map(io_weight), [1, 1, 910, 10_000]);
    }
}
