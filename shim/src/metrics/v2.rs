//! Metrics of cgroups of version 2.

use containerd_shim_protos::{
    cgroups_v2::metrics::{
        CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat,
    },
    protobuf::MessageField,
};
use msb_agent::protocol::{
    CpuStatistics, HugePagesStatistics, IoStatistics, MemoryStatistics, PidsStatistics, Pressure,
    PressureShares, Statistics,
};

use super::{limit, pids_limit, stat};

/// The type's name in containerd.
pub const TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// In that form.
pub fn metrics(found: &Statistics) -> Metrics {
    Metrics {
        pids: found.pids.as_ref().map(pids).into(),
        cpu: Some(cpu(&found.cpu)).into(),
        memory: found.memory.as_ref().map(memory).into(),
        memory_events: found.memory.as_ref().map(memory_events).into(),
        io: Some(io(&found.io, found.io_pressure.as_ref())).into(),
        hugetlb: found.huge_pages.iter().map(huge_pages).collect(),
        ..Metrics::default()
    }
}

fn pids(found: &PidsStatistics) -> PidsStat {
    PidsStat { current: found.current, limit: pids_limit(found.max), ..PidsStat::default() }
}

/// In microseconds on both sides.
fn cpu(found: &CpuStatistics) -> CPUStat {
    CPUStat {
        usage_usec: found.usage,
        user_usec: found.user,
        system_usec: found.system,
        nr_periods: found.periods,
        nr_throttled: found.throttled_periods,
        throttled_usec: found.throttled,
        nr_bursts: found.bursts,
        burst_usec: found.burst,
        psi: pressure(found.pressure.as_ref()),
        ..CPUStat::default()
    }
}

fn memory(found: &MemoryStatistics) -> MemoryStat {
    let stat = |wanted: &str| stat(found, wanted);
    MemoryStat {
        usage: found.current,
        usage_limit: limit(found.max),
        max_usage: found.peak.unwrap_or_default(),
        swap_usage: found.swap.unwrap_or_default(),
        swap_limit: found.swap_max.map_or(0, limit),
        anon: stat("anon"),
        file: stat("file"),
        kernel_stack: stat("kernel_stack"),
        slab: stat("slab"),
        sock: stat("sock"),
        shmem: stat("shmem"),
        file_mapped: stat("file_mapped"),
        file_dirty: stat("file_dirty"),
        file_writeback: stat("file_writeback"),
        anon_thp: stat("anon_thp"),
        inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        slab_reclaimable: stat("slab_reclaimable"),
        slab_unreclaimable: stat("slab_unreclaimable"),
        pgfault: stat("pgfault"),
        pgmajfault: stat("pgmajfault"),
        workingset_refault: stat("workingset_refault_anon").saturating_add(stat("workingset_refault_file")),
        workingset_activate: stat("workingset_activate_anon")
            .saturating_add(stat("workingset_activate_file")),
        workingset_nodereclaim: stat("workingset_nodereclaim"),
        pgrefill: stat("pgrefill"),
        pgscan: stat("pgscan"),
        pgsteal: stat("pgsteal"),
        pgactivate: stat("pgactivate"),
        pgdeactivate: stat("pgdeactivate"),
        pglazyfree: stat("pglazyfree"),
        pglazyfreed: stat("pglazyfreed"),
        thp_fault_alloc: stat("thp_fault_alloc"),
        thp_collapse_alloc: stat("thp_collapse_alloc"),
        psi: pressure(found.pressure.as_ref()),
        ..MemoryStat::default()
    }
}

fn memory_events(found: &MemoryStatistics) -> MemoryEvents {
    let events = &found.events;
    MemoryEvents {
        low: events.low,
        high: events.high,
        max: events.max,
        oom: events.oom,
        oom_kill: events.oom_kill,
        oom_group_kill: events.oom_group_kill,
        ..MemoryEvents::default()
    }
}

fn io(found: &[IoStatistics], of_all: Option<&Pressure>) -> IOStat {
    let entry = |one: &IoStatistics| IOEntry {
        major: one.major.into(),
        minor: one.minor.into(),
        rbytes: one.read_bytes,
        wbytes: one.written_bytes,
        rios: one.reads,
        wios: one.writes,
        ..IOEntry::default()
    };
    IOStat { usage: found.iter().map(entry).collect(), psi: pressure(of_all), ..IOStat::default() }
}

fn huge_pages(found: &HugePagesStatistics) -> HugeTlbStat {
    HugeTlbStat {
        current: found.current,
        max: limit(found.max),
        pagesize: found.page_size.clone(),
        failcnt: found.failures,
        ..HugeTlbStat::default()
    }
}

fn pressure(found: Option<&Pressure>) -> MessageField<PSIStats> {
    let shares = |found: &PressureShares| {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        PSIData {
            avg10: percent(found.avg10),
            avg60: percent(found.avg60),
            avg300: percent(found.avg300),
            total: found.total,
            ..PSIData::default()
        }
    };
    let stats = found.map(|Pressure { some, full }| PSIStats {
        some: Some(shares(some)).into(),
        full: Some(shares(full)).into(),
        ..PSIStats::default()
    });
    stats.into()
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::Amount;

    use super::*;

    #[test]
    fn the_guests_numbers_in_containerds_fields() {
        let found = Statistics {
            cpu: CpuStatistics { usage: 12, system: 5, user: 7, ..CpuStatistics::default() },
            memory: Some(MemoryStatistics {
                current: 5,
                peak: Some(9),
                max: Amount::Of(64),
                swap: None,
                swap_max: None,
                events: msb_agent::protocol::MemoryEvents { oom_kill: 1, ..Default::default() },
                stat: vec![("anon".into(), 4), ("pgfault".into(), 3)],
                pressure: None,
            }),
            pids: Some(PidsStatistics { current: 2, max: Amount::Unlimited }),
            io: vec![IoStatistics {
                major: 254,
                minor: 16,
                read_bytes: 7,
                writes: 2,
                ..IoStatistics::default()
            }],
            ..Statistics::default()
        };
        let told = metrics(&found);
        assert_eq!((told.cpu.usage_usec, told.cpu.user_usec, told.cpu.system_usec), (12, 7, 5));
        assert_eq!((told.memory.usage, told.memory.usage_limit, told.memory.max_usage), (5, 64, 9));
        assert_eq!(told.memory_events.oom_kill, 1);
        assert_eq!((told.memory.anon, told.memory.pgfault), (4, 3));
        assert_eq!((told.pids.current, told.pids.limit), (2, 0));
        assert_eq!((told.io.usage[0].major, told.io.usage[0].rbytes, told.io.usage[0].wios), (254, 7, 2));
    }
}
