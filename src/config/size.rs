//! How large a machine the container's limits ask for.

use oci_spec::runtime::{Linux, LinuxCpu};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Memory of a machine whose container has no limit, in MiB. Not touched before it is used.
pub const DEFAULT_MEMORY_MIB: u64 = 1024;

/// Added to a container's limit for the guest's kernel, page tables and agent, in MiB.
pub const GUEST_OVERHEAD_MIB: u64 = 64;

/// The smallest machine, in MiB: the guest's kernel and the initramfs fit with room to run.
const MIN_MEMORY_MIB: u64 = 128;

/// The largest machine, in MiB: 1 TiB.
const MAX_MEMORY_MIB: u64 = 1 << 20;

/// From here on a limit means none: what the kernel reports as `memory.limit_in_bytes` of an unlimited cgroup
/// (version 1), which some callers copy.
const UNLIMITED: i64 = 0x7fff_ffff_ffff_f000;

/// The most processors that a machine has.
const MAX_VCPUS: u64 = 32;

/// `cpu.cfs_period_us` where none is given (kernel, `sched-bwc`), in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Processors and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// 1 to 32.
    pub vcpus: u8,
    /// In MiB.
    pub memory_mib: u64,
}

impl Size {
    /// From `linux.resources`.
    ///
    /// # Errors
    /// [`ConfigError::MemoryLimit`], [`ConfigError::CpuList`]
    pub fn of(linux: &Linux) -> Result<Self, ConfigError> {
        let resources = linux.resources().as_ref();
        let limit = resources.and_then(|all| all.memory().as_ref()?.limit());
        let cpu = resources.and_then(|all| all.cpu().as_ref());
        Ok(Self { vcpus: cpu.map_or(Ok(1), vcpus)?, memory_mib: memory(limit)? })
    }
}

/// The limit, rounded up, and the guest's own need.
fn memory(limit: Option<i64>) -> Result<u64, ConfigError> {
    let bytes = match limit.map(|bytes| (bytes, u64::try_from(bytes))) {
        // Zero and negative: no limit.
        None | Some((0, _) | (_, Err(_)) | (UNLIMITED.., _)) => return Ok(DEFAULT_MEMORY_MIB),
        Some((_, Ok(bytes))) => bytes,
    };
    let mib = bytes.div_ceil(1 << 20) + GUEST_OVERHEAD_MIB;
    if mib > MAX_MEMORY_MIB {
        return Err(ConfigError::MemoryLimit { bytes: limit.unwrap_or_default() });
    }
    Ok(mib.max(MIN_MEMORY_MIB))
}

/// As many as the quota can keep busy, and no more than the list of processors has; one if neither is given.
fn vcpus(cpu: &LinuxCpu) -> Result<u8, ConfigError> {
    let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD);
    let by_quota = quota.map(|quota| quota.div_ceil(period));
    let by_list = cpu.cpus().as_deref().filter(|list| !list.trim().is_empty()).map(count).transpose()?;
    let wanted = match (by_quota, by_list) {
        (Some(quota), Some(list)) => quota.min(list),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => 1,
    };
    Ok(u8::try_from(wanted.clamp(1, MAX_VCPUS)).expect("at most 32"))
}

/// How many processors a list like `0-3,5` names.
fn count(list: &str) -> Result<u64, ConfigError> {
    let broken = || ConfigError::CpuList { text: list.into() };
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| broken());
    let mut total = 0_u64;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        let width = last.checked_sub(first).ok_or_else(broken)?;
        total = total.saturating_add(u64::from(width) + 1);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cpu(quota: i64, period: u64, list: &str) -> LinuxCpu {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(quota)).set_period(Some(period)).set_cpus(Some(list.into()));
        cpu
    }

    #[test]
    fn memory_is_the_limit_and_the_guest() {
        assert_eq!(memory(None), Ok(1024));
        assert_eq!(memory(Some(0)), Ok(1024));
        assert_eq!(memory(Some(-1)), Ok(1024));
        assert_eq!(memory(Some(i64::MAX)), Ok(1024));
        assert_eq!(memory(Some(256 << 20)), Ok(320));
        assert_eq!(memory(Some((256 << 20) + 1)), Ok(321));
        assert_eq!(memory(Some(4 << 20)), Ok(128));
        assert_eq!(memory(Some(1 << 50)), Err(ConfigError::MemoryLimit { bytes: 1 << 50 }));
    }

    #[test]
    fn processors_follow_quota_and_list() {
        for (quota, period, list, expected) in [
            (0, 0, "", 1),
            (-1, 100_000, "", 1),
            (50_000, 100_000, "", 1),
            (150_000, 100_000, "", 2),
            (400_000, 0, "", 4),
            (0, 0, "0-3,5", 5),
            (150_000, 100_000, "0-3", 2),
            (800_000, 100_000, "1", 1),
            (i64::MAX, 1, "", 32),
            (0, 0, "0-4294967295", 32),
        ] {
            assert_eq!(vcpus(&cpu(quota, period, list)), Ok(expected), "{quota} {period} {list:?}");
        }
        for list in ["a", "3-1", "1,,2", "0-99999999999"] {
            assert!(vcpus(&cpu(0, 0, list)).is_err(), "{list}");
        }
    }

    proptest! {
        #[test]
        fn any_limits_give_a_machine_or_an_error(limit: i64, quota: i64, period: u64, list in "[0-9,-]{0,8}") {
            if let Ok(mib) = memory(Some(limit)) {
                prop_assert!((MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&mib));
            }
            if let Ok(vcpus) = vcpus(&cpu(quota, period, &list)) {
                prop_assert!((1..=32).contains(&vcpus));
            }
        }
    }
}
