//! What a container uses, as containerd's metrics of cgroups, in the version that its host has.
//!
//! Enters: what the guest has counted of the container, and the processor time that the host has counted of its machine.
//! Leaves: one message. Memory, processes and disks are the guest's, whose limits are the container's: a machine's own memory
//! is beyond them, and in the cgroup on the host (for a pod: in the pod's). Processor time is all that the machine took:
//! the guest's, and above it what the VMM did for it, which is the kernel's work in the container's eyes. Of a pod's machine
//! the first container has what the VMM did for all of them, and each the guest's time of its own.

mod v1;
mod v2;

use containerd_shim_protos::protobuf::{Message, well_known_types::any::Any};
use msb_agent::protocol::{Amount, CpuStatistics, MemoryStatistics, Statistics};
use msb_runtime::host::cgroup::CpuTime;

/// Of which cgroups the metrics are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    One,
    /// One for all.
    Two,
}

/// For a `StatsResponse`.
pub fn any(mut found: Statistics, machine: Option<CpuTime>, version: Version) -> Any {
    add_machine(&mut found.cpu, machine.unwrap_or_default());
    // These messages have nothing that could not be written.
    let (name, value) = match version {
        Version::One => (v1::TYPE, v1::metrics(&found).write_to_bytes()),
        Version::Two => (v2::TYPE, v2::metrics(&found).write_to_bytes()),
    };
    Any { type_url: name.into(), value: value.unwrap_or_default(), ..Any::default() }
}

/// The machine's time has the guest's in it. Where it is less, such as in a container that has no machine to itself, the
/// guest's stands.
fn add_machine(guest: &mut CpuStatistics, machine: CpuTime) {
    let own = machine.usage.saturating_sub(guest.usage);
    guest.usage += own;
    guest.system += own;
}

fn limit(amount: Amount) -> u64 {
    match amount {
        Amount::Unlimited => u64::MAX,
        Amount::Of(number) => number,
    }
}

/// As containerd reads `max` of processes.
fn pids_limit(amount: Amount) -> u64 {
    match amount {
        Amount::Unlimited => 0,
        Amount::Of(limit) => limit,
    }
}

/// A line of `memory.stat`.
fn stat(found: &MemoryStatistics, wanted: &str) -> u64 {
    found.stat.iter().find(|(name, _)| name == wanted).map_or(0, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::{cgroups::metrics as one, cgroups_v2::metrics as two};

    use super::*;

    #[test]
    fn the_machines_time_is_added_in_the_hosts_version() {
        let cpu = CpuStatistics { usage: 12, user: 7, system: 5, ..CpuStatistics::default() };
        let found = Statistics { cpu, ..Statistics::default() };
        let machine = Some(CpuTime { usage: 20, user: 1, system: 19 });
        let told = any(found.clone(), machine, Version::Two);
        assert_eq!(told.type_url, "io.containerd.cgroups.v2.Metrics");
        let told = two::Metrics::parse_from_bytes(&told.value).unwrap();
        assert_eq!((told.cpu.usage_usec, told.cpu.user_usec, told.cpu.system_usec), (20, 7, 13));
        let told = any(found.clone(), machine, Version::One);
        assert_eq!(told.type_url, "io.containerd.cgroups.v1.Metrics");
        let told = one::Metrics::parse_from_bytes(&told.value).unwrap();
        let usage = &told.cpu.usage;
        assert_eq!((usage.total, usage.user, usage.kernel), (20_000, 7_000, 13_000));
        // Less than the guest's: not the container's machine alone.
        let told = any(found, None, Version::Two);
        assert_eq!(two::Metrics::parse_from_bytes(&told.value).unwrap().cpu.usage_usec, 12);
    }
}
