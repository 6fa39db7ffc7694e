//! `linux.resources` → what the container is held to inside its guest.
//!
//! The same limits that [`super::Limits`] puts on the machine, here without the machine's own part: so a container with
//! 64 MiB is killed at 64 MiB, a fork bomb stops at `pids.limit`, and who reads `/sys/fs/cgroup` sees what was asked
//! for. Left to the host alone: which of its processors and memory nodes (`cpuset`; the guest has as many as are
//! named), and block devices (`blockIO`; those numbers are the host's). `rdma` limits devices that no guest has, and
//! `memory.kernel`, `kernelTCP`, `swappiness` and `disableOOMKiller` are version 1's: they have no meaning here, as with
//! runc on version 2.

use msb_agent::protocol::{Amount, GuestLimits, HugePages};
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{
    ConfigError,
    limits::{THE_GUESTS, unified},
    size::count,
};

/// Files that are written on the host and in the guest.
const BOTH: [&str; 4] = ["cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle"];

/// For a new container, and for the resources that `update` is given. Zero means "not given" in every amount: Docker
/// writes it so. Negative: no limit.
///
/// # Errors
/// [`ConfigError::Swap`], [`ConfigError::CpuList`], [`ConfigError::Unified`], [`ConfigError::HugePages`],
/// [`ConfigError::HostOnly`].
pub fn guest_limits(resources: &LinuxResources) -> Result<GuestLimits, ConfigError> {
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let limit = memory.and_then(LinuxMemory::limit).filter(|limit| *limit != 0);
    let cpus = cpu.and_then(|cpu| cpu.cpus().as_deref()).filter(|list| !list.trim().is_empty());
    if cpu.is_some_and(|cpu| {
        cpu.realtime_runtime().unwrap_or(0) != 0 || cpu.realtime_period().unwrap_or(0) != 0
    }) {
        return Err(ConfigError::HostOnly {
            field: "resources.cpu.realtimeRuntime and realtimePeriod",
            reason: "the guest's kernel has no realtime groups",
        });
    }
    Ok(GuestLimits {
        memory: limit.map(amount),
        check_memory: memory.and_then(LinuxMemory::check_before_update).unwrap_or_default(),
        reservation: memory.and_then(LinuxMemory::reservation).filter(|bytes| *bytes != 0).map(amount),
        swap: swap(limit, memory.and_then(LinuxMemory::swap))?,
        pids: resources.pids().as_ref().map(|pids| pids.limit()).filter(|count| *count != 0).map(amount),
        cpu_weight: cpu.and_then(LinuxCpu::shares).filter(|shares| *shares != 0).map(cpu_weight),
        cpu_idle: cpu.and_then(LinuxCpu::idle).map(|idle| idle != 0),
        cpu_quota: cpu.and_then(LinuxCpu::quota).filter(|quota| *quota != 0).map(amount),
        cpu_period: cpu.and_then(LinuxCpu::period).filter(|period| *period != 0),
        cpu_burst: cpu.and_then(LinuxCpu::burst),
        cpus: cpus.map(count).transpose()?.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        huge_pages: huge_pages(resources)?,
        unified: unified(resources)?
            .into_iter()
            .filter(|(file, _)| {
                BOTH.contains(&file.as_str()) || THE_GUESTS.iter().any(|prefix| file.starts_with(prefix))
            })
            .collect(),
    })
}

/// `cpu.weight`: shares from 2 to 262144 on a scale from 1 to 10000, as runc and crun have it.
#[must_use]
pub fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn amount(number: i64) -> Amount {
    u64::try_from(number).map_or(Amount::Unlimited, Amount::Of)
}

/// The configuration counts memory and swap together, version 2 swap alone.
fn swap(memory: Option<i64>, both: Option<i64>) -> Result<Option<Amount>, ConfigError> {
    match (memory, both.filter(|both| *both != 0)) {
        // As runc: who lifts the one lifts the other.
        (Some(..0), None) => Ok(Some(Amount::Unlimited)),
        (_, None) => Ok(None),
        (_, Some(..0)) => Ok(Some(Amount::Unlimited)),
        (Some(..0), Some(both)) => Ok(Some(amount(both))),
        // Beyond what, is not known.
        (None, Some(_)) => Ok(None),
        (Some(memory), Some(both)) if both < memory => Err(ConfigError::Swap { memory, both }),
        (Some(memory), Some(both)) => Ok(Some(amount(both - memory))),
    }
}

fn huge_pages(resources: &LinuxResources) -> Result<Vec<HugePages>, ConfigError> {
    let one = |page_size: &str, limit: i64| {
        let text = || ConfigError::HugePages { page_size: page_size.into(), limit };
        let number =
            page_size.strip_suffix("KB").or(page_size.strip_suffix("MB")).or(page_size.strip_suffix("GB"));
        number.and_then(|number| number.parse::<u32>().ok()).ok_or_else(text)?;
        Ok(HugePages { page_size: page_size.into(), limit: u64::try_from(limit).map_err(|_| text())? })
    };
    resources.hugepage_limits().iter().flatten().map(|limit| one(limit.page_size(), limit.limit())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(resources: Value) -> Result<GuestLimits, ConfigError> {
        guest_limits(&serde_json::from_value(resources).unwrap())
    }

    #[test]
    fn memory_is_the_containers_own() {
        let found =
            of(json!({"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 1 << 20}})).unwrap();
        assert_eq!(found.memory, Some(Amount::Of(64 << 20)));
        assert_eq!(found.swap, Some(Amount::Of(32 << 20)));
        assert_eq!(found.reservation, Some(Amount::Of(1 << 20)));
        let swap = |memory: i64, swap: i64| {
            of(json!({"memory": {"limit": memory, "swap": swap}})).map(|limits| limits.swap)
        };
        assert_eq!(swap(8, 8), Ok(Some(Amount::Of(0))));
        assert_eq!(swap(8, -1), Ok(Some(Amount::Unlimited)));
        assert_eq!(swap(-1, 0), Ok(Some(Amount::Unlimited)));
        assert_eq!(swap(-1, 9), Ok(Some(Amount::Of(9))));
        assert_eq!(swap(8, 0), Ok(None));
        assert_eq!(swap(0, 9), Ok(None));
        assert_eq!(swap(8, 7), Err(ConfigError::Swap { memory: 8, both: 7 }));
    }

    #[test]
    fn dockers_zeros_are_nothing() {
        let zeros = json!({
            "memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "realtimeRuntime": 0, "realtimePeriod": 0},
            "blockIO": {"weight": 0}, "pids": {"limit": 0},
        });
        assert_eq!(of(zeros).unwrap(), GuestLimits::default());
        assert_eq!(of(json!({})).unwrap(), GuestLimits::default());
    }

    #[test]
    fn the_rest() {
        let found = of(json!({
            "cpu": {"shares": 1024, "quota": -1, "period": 50_000, "burst": 3, "idle": 1, "cpus": "0-3,7"},
            "pids": {"limit": -1},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
            "unified": {"memory.high": "1", "io.max": "8:0 rbps=1", "cpu.max": "5 10", "cpuset.cpus": "0"},
        }))
        .unwrap();
        assert_eq!(found.cpu_weight, Some(39));
        assert_eq!(found.cpu_quota, Some(Amount::Unlimited));
        assert_eq!((found.cpu_period, found.cpu_burst, found.cpu_idle), (Some(50_000), Some(3), Some(true)));
        assert_eq!((found.cpus, found.pids), (Some(5), Some(Amount::Unlimited)));
        assert_eq!(found.huge_pages, [HugePages { page_size: "2MB".into(), limit: 4 }]);
        let files: Vec<_> = found.unified.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(files, ["cpu.max", "memory.high"]);
    }

    #[test]
    fn realtime_groups_are_refused() {
        for cpu in
            [json!({"realtimeRuntime": 9}), json!({"realtimePeriod": 9}), json!({"realtimeRuntime": -1})]
        {
            assert!(matches!(of(json!({ "cpu": cpu })), Err(ConfigError::HostOnly { .. })), "{cpu}");
        }
    }

    #[test]
    fn pages_of_no_size_are_refused() {
        for (size, limit) in [("2MiB", 1), ("../2MB", 1), ("", 1), ("MB", 1), ("2MB", -1)] {
            let refused = of(json!({"hugepageLimits": [{"pageSize": size, "limit": limit}]}));
            assert!(matches!(refused, Err(ConfigError::HugePages { .. })), "{size} {limit}");
        }
    }

    #[test]
    fn shares_cover_the_scale() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(cpu_weight), [1, 1, 39, 10_000, 10_000]);
    }
}
