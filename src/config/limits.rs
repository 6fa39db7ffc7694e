//! `linux.resources` → what the host's cgroup holds the VMM to.
//!
//! Of memory the machine needs more than its container: a part for the guest's kernel, and one for the VMM itself. Limits
//! of processes (`pids`), huge pages and devices are the guest's matter: the VMM's threads are not the container's
//! processes.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use serde::{Deserialize, Serialize};

use super::{Bytes, ConfigError, Size, size};

/// Beside the guest's memory: the VMM's own, and files of its disks that the kernel keeps for it, in bytes.
const VMM_MEMORY: u64 = 32 << 20;

/// One part of so many of the guest's memory goes into page tables: 8 bytes for each page of 4096, in the VMM's and
/// in KVM's tables, and as much again for their fragmentation.
const TABLES: u64 = 128;

/// Keys of `unified` that limit the container and not its machine.
pub(super) const THE_GUESTS: [&str; 5] = ["memory.", "pids.", "hugetlb.", "misc.", "rdma."];

/// Absent: left as it is. Negative amounts: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// In bytes, the whole machine and its VMM.
    pub memory: Option<i64>,
    /// What is spared when memory is short, in bytes.
    pub reservation: Option<i64>,
    /// Memory and swap together, in bytes, the whole machine and its VMM.
    pub swap: Option<i64>,
    /// `cpu.shares`: 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds of each period.
    pub cpu_quota: Option<i64>,
    /// In microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds that may be saved up.
    pub cpu_burst: Option<u64>,
    /// Whether it runs only when nothing else does (1).
    pub cpu_idle: Option<i64>,
    /// Processors, as a list like `0-3,5`.
    pub cpus: Option<String>,
    /// Memory nodes, as such a list.
    pub mems: Option<String>,
    /// 10 to 1000.
    pub io_weight: Option<u16>,
    /// The same for single devices.
    pub io_weights: Vec<(Device, u16)>,
    /// Rates for single devices.
    pub io_rates: Vec<Rate>,
    /// Files of cgroup version 2 and what is written to them.
    pub unified: Vec<(String, String)>,
}

/// Numbers of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `major`
    pub major: u32,
    /// `minor`
    pub minor: u32,
}

/// A device may do no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Which.
    pub device: Device,
    /// Of what.
    pub kind: RateKind,
    /// In a second.
    pub amount: u64,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateKind {
    /// `throttleReadBpsDevice`
    ReadBytes,
    /// `throttleWriteBpsDevice`
    WriteBytes,
    /// `throttleReadIOPSDevice`
    Reads,
    /// `throttleWriteIOPSDevice`
    Writes,
}

/// What a container's limit of memory can become: a machine has the memory that it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The largest limit, in bytes.
    pub most: u64,
    /// What the machine and its VMM need beyond the limit, in bytes.
    pub beyond: i64,
}

impl Room {
    /// Of a machine of `size`, in which the guest itself needs `overhead`, and whose container has `resources` now.
    #[must_use]
    pub(super) fn of(size: Size, overhead: Bytes, resources: Option<&LinuxResources>) -> Self {
        let limit = resources.and_then(|all| all.memory().as_ref()?.limit());
        let now = limit.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let guest = size.memory_mib.saturating_mul(1 << 20);
        // No limit at all may be a very large one.
        let most = size::room(size, overhead).max(now.min(guest));
        Self { most, beyond: machine(size).saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)) }
    }
}

impl Limits {
    /// For a machine of `size` that serves a container with these resources. Zero means "not given" in every amount:
    /// Docker writes it so.
    ///
    /// # Errors
    /// [`ConfigError::Unified`], [`ConfigError::Device`].
    pub fn of(resources: &LinuxResources, size: Size) -> Result<Self, ConfigError> {
        let limit = resources.memory().as_ref().and_then(LinuxMemory::limit).filter(|limit| *limit != 0);
        let whole = machine(size);
        // What the guest has beyond the container's limit is the machine's as well.
        let beyond = limit.map_or(whole, |limit| whole.saturating_sub(limit.max(0)));
        Self::with(resources, beyond)
    }

    /// For a container that is there, whose machine has `room`.
    ///
    /// # Errors
    /// As [`Self::of`], and [`ConfigError::Room`].
    pub fn again(resources: &LinuxResources, room: Room) -> Result<Self, ConfigError> {
        let limit = resources.memory().as_ref().and_then(LinuxMemory::limit).filter(|limit| *limit > 0);
        match limit {
            Some(bytes) if u64::try_from(bytes).is_ok_and(|bytes| bytes > room.most) => {
                Err(ConfigError::Room { bytes, most: Bytes(room.most) })
            }
            _ => Self::with(resources, room.beyond),
        }
    }

    fn with(resources: &LinuxResources, beyond: i64) -> Result<Self, ConfigError> {
        let memory = resources.memory().as_ref();
        let cpu = resources.cpu().as_ref();
        let io = resources.block_io().as_ref();
        let text = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let limit = memory.and_then(LinuxMemory::limit).filter(|limit| *limit != 0);
        let more = |bytes: i64| if bytes < 0 { bytes } else { bytes.saturating_add(beyond) };
        Ok(Self {
            memory: limit.map(more),
            reservation: memory.and_then(LinuxMemory::reservation).filter(|bytes| *bytes != 0),
            swap: memory.and_then(LinuxMemory::swap).filter(|bytes| *bytes != 0).map(more),
            cpu_shares: cpu.and_then(LinuxCpu::shares).filter(|shares| *shares != 0),
            cpu_quota: cpu.and_then(LinuxCpu::quota).filter(|quota| *quota != 0),
            cpu_period: cpu.and_then(LinuxCpu::period).filter(|period| *period != 0),
            cpu_burst: cpu.and_then(LinuxCpu::burst),
            cpu_idle: cpu.and_then(LinuxCpu::idle),
            cpus: cpu.and_then(|cpu| text(cpu.cpus())),
            mems: cpu.and_then(|cpu| text(cpu.mems())),
            io_weight: io.and_then(LinuxBlockIo::weight).filter(|weight| *weight != 0),
            io_weights: io.map(weights).transpose()?.unwrap_or_default(),
            io_rates: io.map(rates).transpose()?.unwrap_or_default(),
            unified: unified(resources)?
                .into_iter()
                .filter(|(file, _)| !THE_GUESTS.iter().any(|prefix| file.starts_with(prefix)))
                .collect(),
        })
    }
}

/// What a machine of this size and its VMM may take, in bytes.
fn machine(size: Size) -> i64 {
    let guest = size.memory_mib.saturating_mul(1 << 20);
    i64::try_from(guest.saturating_add(guest / TABLES).saturating_add(VMM_MEMORY)).unwrap_or(i64::MAX)
}

fn device(major: i64, minor: i64) -> Result<Device, ConfigError> {
    let number = |number: i64| u32::try_from(number).map_err(|_| ConfigError::Device { major, minor });
    Ok(Device { major: number(major)?, minor: number(minor)? })
}

/// `leafWeight`, here and for all devices, is of a scheduler (CFQ) that Linux has no more since 5.0; runc, too, passes it
/// over where it is not there.
fn weights(io: &LinuxBlockIo) -> Result<Vec<(Device, u16)>, ConfigError> {
    let all = io.weight_device().iter().flatten();
    all.filter_map(|one| Some((one, one.weight()?)))
        .map(|(one, weight)| Ok((device(one.major(), one.minor())?, weight)))
        .collect()
}

fn rates(io: &LinuxBlockIo) -> Result<Vec<Rate>, ConfigError> {
    let rate = |kind| {
        move |one: &LinuxThrottleDevice| {
            Ok(Rate { device: device(one.major(), one.minor())?, kind, amount: one.rate() })
        }
    };
    [
        (RateKind::ReadBytes, io.throttle_read_bps_device()),
        (RateKind::WriteBytes, io.throttle_write_bps_device()),
        (RateKind::Reads, io.throttle_read_iops_device()),
        (RateKind::Writes, io.throttle_write_iops_device()),
    ]
    .into_iter()
    .flat_map(|(kind, list)| list.iter().flatten().map(rate(kind)))
    .collect()
}

/// All of `unified`, in one order: the map has none.
pub(super) fn unified(resources: &LinuxResources) -> Result<Vec<(String, String)>, ConfigError> {
    let mut files = Vec::new();
    for (file, value) in resources.unified().iter().flatten() {
        let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
        if !plain || !file.contains('.') || file.starts_with("cgroup.") || file.starts_with('.') {
            return Err(ConfigError::Unified { file: file.clone() });
        }
        files.push((file.clone(), value.clone()));
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SIZE: Size = Size { vcpus: 1, memory_mib: 128 };

    fn limits(resources: Value) -> Result<Limits, ConfigError> {
        Limits::of(&serde_json::from_value(resources).unwrap(), SIZE)
    }

    #[test]
    fn memory_is_the_machines() {
        let whole = (128 + 1 + 32) << 20;
        let found = limits(json!({"memory": {"limit": 64 << 20, "swap": 128 << 20}})).unwrap();
        assert_eq!((found.memory, found.swap), (Some(whole), Some(whole + (64 << 20))));
        let found = limits(json!({"memory": {"limit": 64 << 20, "swap": -1}})).unwrap();
        assert_eq!(found.swap, Some(-1));
        assert_eq!(limits(json!({"memory": {"limit": -1}})).unwrap().memory, Some(-1));
    }

    #[test]
    fn a_limit_can_grow_into_the_machine_and_no_further() {
        let limited = |bytes: u64| -> LinuxResources {
            serde_json::from_value(json!({"memory": {"limit": bytes}})).unwrap()
        };
        let before = limited(32 << 20);
        let room = Room::of(SIZE, Bytes(64 << 20), Some(&before));
        assert!((62 << 20..64 << 20).contains(&room.most), "{room:?}");
        let whole = Limits::of(&before, SIZE).unwrap().memory.unwrap();
        let most = Limits::again(&limited(room.most), room).unwrap().memory.unwrap();
        assert_eq!(most, whole, "the whole machine may be used");
        let less = Limits::again(&limited(16 << 20), room).unwrap().memory.unwrap();
        assert!(less < whole && less > 64 << 20, "{less}");
        let refused = Limits::again(&limited(room.most + 1), room);
        assert!(matches!(refused, Err(ConfigError::Room { .. })));
        assert_eq!(Limits::again(&limited(0), room), Ok(Limits::default()));
        // Who was given more than fits keeps what it has.
        assert_eq!(Room::of(SIZE, Bytes(64 << 20), Some(&limited(100 << 20))).most, 100 << 20);
    }

    #[test]
    fn dockers_zeros_are_nothing() {
        let zeros = json!({
            "memory": {"limit": 0, "swap": 0, "reservation": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0}, "pids": {"limit": 0},
        });
        assert_eq!(limits(zeros).unwrap(), Limits::default());
        assert_eq!(limits(json!({})).unwrap(), Limits::default());
    }

    #[test]
    fn single_devices() {
        let found = limits(json!({"blockIO": {
            "weightDevice": [{"major": 8, "minor": 0, "weight": 20}, {"major": 8, "minor": 1, "leafWeight": 20}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 7}],
        }}))
        .unwrap();
        let device = Device { major: 8, minor: 0 };
        assert_eq!(found.io_weights, [(device, 20)]);
        let write = Rate { device: Device { major: 8, minor: 16 }, kind: RateKind::Writes, amount: 7 };
        assert_eq!(found.io_rates, [Rate { device, kind: RateKind::ReadBytes, amount: 1000 }, write]);
        let negative = json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}});
        assert!(matches!(limits(negative), Err(ConfigError::Device { .. })));
    }

    #[test]
    fn files_of_version_2_stay_in_their_directory() {
        let found =
            limits(json!({"unified": {"cpu.weight": "50", "memory.high": "1", "io.max": "8:0 rbps=1"}}));
        let expected = [("cpu.weight", "50"), ("io.max", "8:0 rbps=1")];
        assert_eq!(found.unwrap().unified, expected.map(|(file, value)| (file.into(), value.into())));
        for file in ["../x.y", "cpu", "", "cgroup.procs", "a/b.c", ".."] {
            assert!(
                matches!(limits(json!({"unified": {file: "1"}})), Err(ConfigError::Unified { .. })),
                "{file}"
            );
        }
    }
}
