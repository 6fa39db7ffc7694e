//! Metrics of cgroups of version 1, with what the guest, whose cgroups are of version 2, has for each of their fields.

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat,
    Metrics, PidsStat, Throttle,
};
use msb_agent::protocol::{
    CpuStatistics, HugePagesStatistics, IoStatistics, MemoryStatistics, PidsStatistics, Statistics,
};

use super::{limit, pids_limit, stat};

/// The type's name in containerd.
pub const TYPE: &str = "io.containerd.cgroups.v1.Metrics";

/// Times are in nanoseconds in this form.
const NANOSECONDS: u64 = 1000;

/// In that form.
pub fn metrics(found: &Statistics) -> Metrics {
    let memory = found.memory.as_ref();
    Metrics {
        pids: found.pids.as_ref().map(pids).into(),
        cpu: Some(cpu(&found.cpu)).into(),
        memory: memory.map(self::memory).into(),
        memory_oom_control: memory
            .map(|memory| MemoryOomControl {
                oom_kill: memory.events.oom_kill,
                ..MemoryOomControl::default()
            })
            .into(),
        blkio: Some(block(&found.io)).into(),
        hugetlb: found.huge_pages.iter().map(huge_pages).collect(),
        ..Metrics::default()
    }
}

fn pids(found: &PidsStatistics) -> PidsStat {
    PidsStat { current: found.current, limit: pids_limit(found.max), ..PidsStat::default() }
}

fn cpu(found: &CpuStatistics) -> CPUStat {
    let usage = CPUUsage {
        total: found.usage.saturating_mul(NANOSECONDS),
        user: found.user.saturating_mul(NANOSECONDS),
        kernel: found.system.saturating_mul(NANOSECONDS),
        ..CPUUsage::default()
    };
    let throttling = Throttle {
        periods: found.periods,
        throttled_periods: found.throttled_periods,
        throttled_time: found.throttled.saturating_mul(NANOSECONDS),
        ..Throttle::default()
    };
    CPUStat { usage: Some(usage).into(), throttling: Some(throttling).into(), ..CPUStat::default() }
}

/// `rss` was what no file is behind, `cache` the rest. The guest's figures are of all beneath the container, as `total_*`.
fn memory(found: &MemoryStatistics) -> MemoryStat {
    let stat = |wanted: &str| stat(found, wanted);
    let swap = found.swap.unwrap_or_default();
    MemoryStat {
        cache: stat("file"),
        total_cache: stat("file"),
        rss: stat("anon"),
        total_rss: stat("anon"),
        rss_huge: stat("anon_thp"),
        total_rss_huge: stat("anon_thp"),
        mapped_file: stat("file_mapped"),
        total_mapped_file: stat("file_mapped"),
        dirty: stat("file_dirty"),
        total_dirty: stat("file_dirty"),
        writeback: stat("file_writeback"),
        total_writeback: stat("file_writeback"),
        pg_fault: stat("pgfault"),
        total_pg_fault: stat("pgfault"),
        pg_maj_fault: stat("pgmajfault"),
        total_pg_maj_fault: stat("pgmajfault"),
        inactive_anon: stat("inactive_anon"),
        total_inactive_anon: stat("inactive_anon"),
        active_anon: stat("active_anon"),
        total_active_anon: stat("active_anon"),
        inactive_file: stat("inactive_file"),
        total_inactive_file: stat("inactive_file"),
        active_file: stat("active_file"),
        total_active_file: stat("active_file"),
        unevictable: stat("unevictable"),
        total_unevictable: stat("unevictable"),
        hierarchical_memory_limit: limit(found.max),
        usage: Some(MemoryEntry {
            usage: found.current,
            limit: limit(found.max),
            max: found.peak.unwrap_or_default(),
            failcnt: found.events.max,
            ..MemoryEntry::default()
        })
        .into(),
        // Memory and swap together, as that version has it.
        swap: Some(MemoryEntry {
            usage: found.current.saturating_add(swap),
            limit: limit(found.max).saturating_add(found.swap_max.map_or(0, limit)),
            ..MemoryEntry::default()
        })
        .into(),
        kernel: Some(MemoryEntry { usage: stat("kernel"), limit: u64::MAX, ..MemoryEntry::default() }).into(),
        ..MemoryStat::default()
    }
}

fn block(found: &[IoStatistics]) -> BlkIOStat {
    let entries = |read: fn(&IoStatistics) -> u64, write: fn(&IoStatistics) -> u64| {
        found
            .iter()
            .flat_map(|one| {
                [("Read", read(one)), ("Write", write(one))].map(|(op, value)| BlkIOEntry {
                    op: op.into(),
                    major: one.major.into(),
                    minor: one.minor.into(),
                    value,
                    ..BlkIOEntry::default()
                })
            })
            .collect()
    };
    BlkIOStat {
        io_service_bytes_recursive: entries(|one| one.read_bytes, |one| one.written_bytes),
        io_serviced_recursive: entries(|one| one.reads, |one| one.writes),
        ..BlkIOStat::default()
    }
}

fn huge_pages(found: &HugePagesStatistics) -> HugetlbStat {
    HugetlbStat {
        usage: found.current,
        pagesize: found.page_size.clone(),
        failcnt: found.failures,
        ..HugetlbStat::default()
    }
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::Amount;

    use super::*;

    #[test]
    fn the_guests_numbers_in_the_older_fields() {
        let found = Statistics {
            memory: Some(MemoryStatistics {
                current: 50,
                peak: Some(60),
                max: Amount::Of(64),
                swap: Some(5),
                swap_max: Some(Amount::Of(36)),
                events: msb_agent::protocol::MemoryEvents { oom_kill: 1, ..Default::default() },
                stat: vec![("anon".into(), 40), ("file".into(), 8), ("inactive_file".into(), 3)],
                pressure: None,
            }),
            io: vec![IoStatistics { major: 254, read_bytes: 7, writes: 2, ..IoStatistics::default() }],
            ..Statistics::default()
        };
        let told = metrics(&found);
        assert_eq!((told.memory.usage.usage, told.memory.usage.limit, told.memory.usage.max), (50, 64, 60));
        assert_eq!((told.memory.swap.usage, told.memory.swap.limit), (55, 100));
        assert_eq!((told.memory.rss, told.memory.total_inactive_file, told.memory.cache), (40, 3, 8));
        assert_eq!(told.memory_oom_control.oom_kill, 1);
        let bytes = &told.blkio.io_service_bytes_recursive;
        assert_eq!((bytes[0].op.as_str(), bytes[0].value, bytes[0].major), ("Read", 7, 254));
        assert_eq!(told.blkio.io_serviced_recursive[1].value, 2);
    }
}
