//! Limits as the files of cgroup version 1 (kernel, `Documentation/admin-guide/cgroup-v1/`).

use super::Setting;
use crate::config::{Limits, RateKind};

/// All files that `limits` concern, each with the controller in whose hierarchy it is. `unified` has none here.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut set =
        |controller: &'static str, file: &str, value: String| all.push(Setting::new(controller, file, value));
    for (file, bytes) in [
        ("memory.limit_in_bytes", limits.memory),
        ("memory.soft_limit_in_bytes", limits.reservation),
        ("memory.memsw.limit_in_bytes", limits.swap),
    ] {
        if let Some(bytes) = bytes {
            set("memory", file, bytes.to_string());
        }
    }
    let numbers = [
        ("cpu.shares", limits.cpu_shares.map(|value| value.to_string())),
        ("cpu.cfs_period_us", limits.cpu_period.map(|value| value.to_string())),
        ("cpu.cfs_quota_us", limits.cpu_quota.map(|value| value.to_string())),
        ("cpu.cfs_burst_us", limits.cpu_burst.map(|value| value.to_string())),
        ("cpu.idle", limits.cpu_idle.map(|value| value.to_string())),
    ];
    for (file, value) in numbers {
        if let Some(value) = value {
            set("cpu", file, value);
        }
    }
    for (file, list) in [("cpuset.cpus", &limits.cpus), ("cpuset.mems", &limits.mems)] {
        if let Some(list) = list {
            set("cpuset", file, list.clone());
        }
    }
    if let Some(weight) = limits.io_weight {
        let bfq = Setting::new("blkio", "blkio.bfq.weight", weight.to_string());
        all.push(bfq.or("blkio.weight", weight.to_string()));
    }
    for (device, weight) in &limits.io_weights {
        let value = format!("{}:{} {weight}", device.major, device.minor);
        let bfq = Setting::new("blkio", "blkio.bfq.weight_device", value.clone());
        all.push(bfq.or("blkio.weight_device", value));
    }
    let mut set = |file: &str, value: String| all.push(Setting::new("blkio", file, value));
    for rate in &limits.io_rates {
        let file = match rate.kind {
            RateKind::ReadBytes => "blkio.throttle.read_bps_device",
            RateKind::WriteBytes => "blkio.throttle.write_bps_device",
            RateKind::Reads => "blkio.throttle.read_iops_device",
            RateKind::Writes => "blkio.throttle.write_iops_device",
        };
        set(file, format!("{}:{} {}", rate.device.major, rate.device.minor, rate.amount));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Device, Rate};

    #[test]
    fn every_limit_has_its_controller_and_file() {
        let device = Device { major: 8, minor: 16 };
        let limits = Limits {
            memory: Some(1000),
            swap: Some(-1),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpus: Some("0".into()),
            io_weight: Some(100),
            io_rates: vec![Rate { device, kind: RateKind::Reads, amount: 9 }],
            unified: vec![("cpu.weight".into(), "1".into())],
            ..Limits::default()
        };
        let lines: Vec<String> = settings(&limits)
            .iter()
            .map(|setting| format!("{}/{}={}", setting.controller, setting.file, setting.value))
            .collect();
        assert_eq!(
            lines,
            [
                "memory/memory.limit_in_bytes=1000",
                "memory/memory.memsw.limit_in_bytes=-1",
                "cpu/cpu.shares=1024",
                "cpu/cpu.cfs_quota_us=50000",
                "cpuset/cpuset.cpus=0",
                "blkio/blkio.bfq.weight=100",
                "blkio/blkio.throttle.read_iops_device=8:16 9",
            ]
        );
    }
}
