//! What a container uses, in the shape of `runc events` (its `types.Stats`).
//!
//! The numbers are the guest's: what the container's own processes use, without the machine's part, which the host's
//! cgroup has (and with it `docker stats`). Devices are the guest's too.

use msb_agent::protocol::{
    Amount, CpuStatistics, HugePagesStatistics, IoStatistics, MemoryStatistics, PidsStatistics, Pressure,
    PressureShares, Statistics,
};
use serde_json::{Map, Value, json};

/// `data` of an event.
pub fn data(found: &Statistics) -> Value {
    json!({
        "cpu": cpu(&found.cpu),
        // As runc on version 2.
        "cpuset": {
            "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
            "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
            "sched_load_balance": 0, "sched_relax_domain_level": 0,
        },
        "memory": found.memory.as_ref().map_or_else(|| json!({}), memory),
        "pids": found.pids.as_ref().map_or_else(|| json!({}), pids),
        "blkio": io(&found.io, found.io_pressure.as_ref()),
        "hugetlb": found.huge_pages.iter().map(huge_pages).collect::<Map<_, _>>(),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// In nanoseconds.
fn cpu(found: &CpuStatistics) -> Value {
    let mut cpu = json!({
        "usage": {
            "total": nanos(found.usage), "kernel": nanos(found.system), "user": nanos(found.user),
        },
        "throttling": {
            "periods": found.periods, "throttledPeriods": found.throttled_periods,
            "throttledTime": nanos(found.throttled),
        },
        "burst": { "bursts_periods": found.bursts, "burst_time": nanos(found.burst) },
    });
    add_pressure(&mut cpu, found.pressure.as_ref());
    cpu
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}

/// As runc on version 2: swap is told together with memory.
fn memory(found: &MemoryStatistics) -> Value {
    let stat =
        |wanted: &str| found.stat.iter().find(|(name, _)| name == wanted).map_or(0, |(_, value)| *value);
    let both = match (found.max, found.swap_max.unwrap_or(Amount::Of(0))) {
        (Amount::Of(memory), Amount::Of(swap)) => memory.saturating_add(swap),
        _ => u64::MAX,
    };
    let raw: Map<String, Value> =
        found.stat.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let mut memory = json!({
        "cache": stat("file"),
        "usage": {
            "limit": limit(found.max), "usage": found.current, "max": found.peak.unwrap_or_default(),
            "failcnt": found.events.max,
        },
        "swap": {
            "limit": both, "usage": found.current.saturating_add(found.swap.unwrap_or_default()), "failcnt": 0,
        },
        "kernel": { "limit": 0, "failcnt": 0 },
        "kernelTCP": { "limit": 0, "failcnt": 0 },
        "raw": raw,
    });
    add_pressure(&mut memory, found.pressure.as_ref());
    memory
}

fn limit(amount: Amount) -> u64 {
    match amount {
        Amount::Unlimited => u64::MAX,
        Amount::Of(number) => number,
    }
}

fn pids(found: &PidsStatistics) -> Value {
    match found.max {
        Amount::Unlimited => json!({ "current": found.current }),
        Amount::Of(limit) => json!({ "current": found.current, "limit": limit }),
    }
}

fn io(found: &[IoStatistics], pressure: Option<&Pressure>) -> Value {
    let list = |read: fn(&IoStatistics) -> u64,
                write: fn(&IoStatistics) -> u64,
                discard: fn(&IoStatistics) -> u64| {
        let of = |device: &IoStatistics, op: &str, value: u64| json!({ "major": device.major, "minor": device.minor, "op": op, "value": value });
        let device = |device| {
            [
                of(device, "Read", read(device)),
                of(device, "Write", write(device)),
                of(device, "Discard", discard(device)),
            ]
        };
        found.iter().flat_map(device).collect::<Vec<_>>()
    };
    let mut io = json!({});
    if !found.is_empty() {
        io["ioServiceBytesRecursive"] =
            list(|d| d.read_bytes, |d| d.written_bytes, |d| d.discarded_bytes).into();
        io["ioServicedRecursive"] = list(|d| d.reads, |d| d.writes, |d| d.discards).into();
    }
    add_pressure(&mut io, pressure);
    io
}

fn huge_pages(found: &HugePagesStatistics) -> (String, Value) {
    (found.page_size.clone(), json!({ "usage": found.current, "failcnt": found.failures }))
}

fn add_pressure(to: &mut Value, pressure: Option<&Pressure>) {
    let Some(Pressure { some, full }) = pressure else { return };
    let shares = |found: &PressureShares| {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        json!({
            "avg10": percent(found.avg10), "avg60": percent(found.avg60), "avg300": percent(found.avg300),
            "total": found.total,
        })
    };
    to["psi"] = json!({ "some": shares(some), "full": shares(full) });
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::MemoryEvents;

    use super::*;

    #[test]
    fn the_shape_is_runcs() {
        let memory = MemoryStatistics {
            current: 5,
            peak: Some(9),
            max: Amount::Of(64),
            swap: Some(1),
            swap_max: Some(Amount::Of(64)),
            events: MemoryEvents { max: 3, ..MemoryEvents::default() },
            stat: vec![("anon".into(), 4), ("file".into(), 1)],
            pressure: None,
        };
        let disk =
            IoStatistics { major: 254, minor: 16, read_bytes: 7, writes: 2, ..IoStatistics::default() };
        let found = Statistics {
            cpu: CpuStatistics { usage: 12, system: 5, user: 7, ..CpuStatistics::default() },
            memory: Some(memory),
            pids: Some(PidsStatistics { current: 2, max: Amount::Unlimited }),
            io: vec![disk],
            ..Statistics::default()
        };
        let told = data(&found);
        assert_eq!(told["cpu"]["usage"], json!({"total": 12000, "kernel": 5000, "user": 7000}));
        assert_eq!(told["memory"]["usage"], json!({"limit": 64, "usage": 5, "max": 9, "failcnt": 3}));
        assert_eq!(told["memory"]["swap"]["limit"], 128);
        assert_eq!(told["memory"]["cache"], 1);
        assert_eq!(told["memory"]["raw"]["anon"], 4);
        assert_eq!(told["pids"], json!({"current": 2}));
        let first = json!({"major": 254, "minor": 16, "op": "Read", "value": 7});
        assert_eq!(told["blkio"]["ioServiceBytesRecursive"][0], first);
        assert_eq!(told["hugetlb"], json!({}));
        let empty = data(&Statistics::default());
        assert_eq!((&empty["memory"], &empty["blkio"]), (&json!({}), &json!({})));
    }
}
