//! How large a machine the container's limits ask for.

use oci_spec::runtime::{LinuxCpu, LinuxResources};
use serde::{Deserialize, Serialize};

use super::{
    Bytes, ConfigError, Wishes,
    settings::{MIN_MEMORY, Machine},
};

/// Of each page of 4096 bytes the guest's kernel keeps a `struct page` of 64 bytes.
const PAGES_PER_PAGE_TABLE: u64 = 64;

/// From here on a limit means none: what the kernel reports as `memory.limit_in_bytes` of an unlimited cgroup
/// (version 1), which some callers copy.
const UNLIMITED: i64 = 0x7fff_ffff_ffff_f000;

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
    /// What is wished for, else what `resources` need, else the default of `machine`.
    ///
    /// # Errors
    /// [`ConfigError::MemoryLimit`], [`ConfigError::CpuList`]
    pub fn of(
        resources: Option<&LinuxResources>,
        machine: &Machine,
        wishes: &Wishes,
    ) -> Result<Self, ConfigError> {
        let limit = resources.and_then(|all| all.memory().as_ref()?.limit());
        let by_limits = resources.and_then(|all| all.cpu().as_ref()).map(vcpus).transpose()?.flatten();
        let vcpus = by_limits.map_or(machine.vcpus, |wanted| {
            u8::try_from(wanted.clamp(1, machine.max_vcpus.into())).expect("at most what fits")
        });
        let memory_mib = match wishes.memory {
            Some(memory) => memory.mib(),
            None => memory(limit, machine)?,
        };
        Ok(Self { vcpus: wishes.vcpus.unwrap_or(vcpus), memory_mib })
    }
}

/// The limit, rounded up, and the guest's own need: in MiB.
fn memory(limit: Option<i64>, machine: &Machine) -> Result<u64, ConfigError> {
    let bytes = match limit.map(|bytes| (bytes, u64::try_from(bytes))) {
        // Zero and negative: no limit.
        None | Some((0, _) | (_, Err(_)) | (UNLIMITED.., _)) => return Ok(machine.memory.mib()),
        Some((_, Ok(bytes))) => bytes,
    };
    let limited =
        Bytes(bytes.saturating_add(bytes / PAGES_PER_PAGE_TABLE).saturating_add(machine.overhead.0));
    if limited > machine.max_memory {
        return Err(ConfigError::MemoryLimit { bytes: limit.unwrap_or_default(), most: machine.max_memory });
    }
    Ok(limited.max(MIN_MEMORY).mib())
}

/// The largest limit, in bytes, for which [`memory`] gives a machine of this size.
pub(super) fn room(size: Size, overhead: Bytes) -> u64 {
    let own = size.memory_mib.saturating_mul(1 << 20).saturating_sub(overhead.0);
    own - own.div_ceil(PAGES_PER_PAGE_TABLE + 1)
}

/// As many as the quota can keep busy, and no more than the list of processors has; none if neither is given.
fn vcpus(cpu: &LinuxCpu) -> Result<Option<u64>, ConfigError> {
    let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0);
    let period = cpu.period().filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD);
    let by_quota = quota.map(|quota| quota.div_ceil(period));
    let by_list = cpu.cpus().as_deref().filter(|list| !list.trim().is_empty()).map(count).transpose()?;
    Ok(match (by_quota, by_list) {
        (Some(quota), Some(list)) => Some(quota.min(list)),
        (one, other) => one.or(other),
    })
}

/// How many processors a list like `0-3,5` names.
pub(super) fn count(list: &str) -> Result<u64, ConfigError> {
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
        let memory = |limit| memory(limit, &Machine::default());
        for none in [None, Some(0), Some(-1), Some(i64::MAX)] {
            assert_eq!(memory(none), Ok(1024));
        }
        assert_eq!(memory(Some(256 << 20)), Ok(324));
        assert_eq!(memory(Some((256 << 20) + 1)), Ok(325));
        assert_eq!(memory(Some(4 << 20)), Ok(128));
        assert_eq!(memory(Some(64 << 30)), Ok((64 << 10) + (1 << 10) + 64));
        assert!(
            matches!(memory(Some(1 << 50)), Err(ConfigError::MemoryLimit { bytes, .. }) if bytes == 1 << 50)
        );
    }

    #[test]
    fn processors_follow_quota_and_list() {
        for (quota, period, list, expected) in [
            (0, 0, "", None),
            (-1, 100_000, "", None),
            (50_000, 100_000, "", Some(1)),
            (150_000, 100_000, "", Some(2)),
            (400_000, 0, "", Some(4)),
            (0, 0, "0-3,5", Some(5)),
            (150_000, 100_000, "0-3", Some(2)),
            (800_000, 100_000, "1", Some(1)),
        ] {
            assert_eq!(vcpus(&cpu(quota, period, list)), Ok(expected), "{quota} {period} {list:?}");
        }
        for list in ["a", "3-1", "1,,2", "0-99999999999"] {
            assert!(vcpus(&cpu(0, 0, list)).is_err(), "{list}");
        }
    }

    #[test]
    fn wishes_win_and_limits_are_cut() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"cpu": {"quota": 9000000, "period": 100000}, "memory": {"limit": 1073741824}}"#,
        )
        .unwrap();
        let machine = Machine { max_vcpus: 8, ..Machine::default() };
        let size = Size::of(Some(&resources), &machine, &Wishes::default()).unwrap();
        assert_eq!(size, Size { vcpus: 8, memory_mib: 1024 + 16 + 64 });
        let wishes = Wishes { vcpus: Some(3), memory: Some(Bytes(200 << 20)), ..Wishes::default() };
        assert_eq!(
            Size::of(Some(&resources), &machine, &wishes).unwrap(),
            Size { vcpus: 3, memory_mib: 200 }
        );
        let size = Size::of(None, &machine, &Wishes::default()).unwrap();
        assert_eq!(size.vcpus, machine.vcpus);
    }

    proptest! {
        #[test]
        fn any_limits_give_a_machine_or_an_error(limit: i64, quota: i64, period: u64, list in "[0-9,-]{0,8}") {
            let machine = Machine::default();
            if let Ok(mib) = memory(Some(limit), &machine) {
                prop_assert!((MIN_MEMORY.mib()..=machine.max_memory.mib()).contains(&mib));
            }
            let mut resources = LinuxResources::default();
            resources.set_cpu(Some(cpu(quota, period, &list)));
            if let Ok(size) = Size::of(Some(&resources), &machine, &Wishes::default()) {
                prop_assert!((1..=32).contains(&size.vcpus));
            }
        }
    }
}
