//! What the container uses: the files of its cgroup as numbers.

use msb_agent::protocol::{
    CpuStatistics, HugePagesStatistics, IoStatistics, MemoryEvents, MemoryStatistics, PidsStatistics,
    Pressure, PressureShares, Statistics,
};

use super::files::{Files, amount, flat_keyed, value};

/// Huge pages that the guest's processors have.
const PAGE_SIZES: [&str; 5] = ["64KB", "2MB", "32MB", "1GB", "16GB"];

/// All of it. What the kernel has no file for is left out.
pub fn read_all(files: &Files) -> Statistics {
    Statistics {
        cpu: cpu(&files.read("cpu.stat").unwrap_or_default(), pressure_of(files, "cpu")),
        memory: memory(files),
        pids: pids(files),
        io: io(&files.read("io.stat").unwrap_or_default()),
        io_pressure: pressure_of(files, "io"),
        huge_pages: PAGE_SIZES.into_iter().filter_map(|size| huge_pages(files, size)).collect(),
    }
}

/// How often what happened for want of memory; `None` without that controller.
pub fn memory_events(files: &Files) -> Option<MemoryEvents> {
    let text = files.read("memory.events").ok()?;
    Some(MemoryEvents {
        low: value(&text, "low"),
        high: value(&text, "high"),
        max: value(&text, "max"),
        oom: value(&text, "oom"),
        oom_kill: value(&text, "oom_kill"),
        oom_group_kill: value(&text, "oom_group_kill"),
    })
}

fn cpu(stat: &str, pressure: Option<Pressure>) -> CpuStatistics {
    CpuStatistics {
        usage: value(stat, "usage_usec"),
        user: value(stat, "user_usec"),
        system: value(stat, "system_usec"),
        periods: value(stat, "nr_periods"),
        throttled_periods: value(stat, "nr_throttled"),
        throttled: value(stat, "throttled_usec"),
        bursts: value(stat, "nr_bursts"),
        burst: value(stat, "burst_usec"),
        pressure,
    }
}

fn memory(files: &Files) -> Option<MemoryStatistics> {
    let stat = files.read("memory.stat").unwrap_or_default();
    Some(MemoryStatistics {
        current: number(files, "memory.current")?,
        peak: number(files, "memory.peak"),
        max: amount(&files.read("memory.max").ok()?)?,
        swap: number(files, "memory.swap.current"),
        swap_max: files.read("memory.swap.max").ok().and_then(|text| amount(&text)),
        events: memory_events(files)?,
        stat: flat_keyed(&stat)
            .take(MemoryStatistics::MAX_STAT)
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        pressure: pressure_of(files, "memory"),
    })
}

fn pids(files: &Files) -> Option<PidsStatistics> {
    Some(PidsStatistics {
        current: number(files, "pids.current")?,
        max: amount(&files.read("pids.max").ok()?)?,
    })
}

fn huge_pages(files: &Files, page_size: &str) -> Option<HugePagesStatistics> {
    let file = |name: &str| format!("hugetlb.{page_size}.{name}");
    Some(HugePagesStatistics {
        page_size: page_size.into(),
        current: number(files, &file("current"))?,
        max: amount(&files.read(&file("max")).ok()?)?,
        failures: value(&files.read(&file("events")).unwrap_or_default(), "max"),
    })
}

fn number(files: &Files, name: &str) -> Option<u64> {
    files.read(name).ok()?.trim().parse().ok()
}

/// `MAJOR:MINOR key=value …`, "nested keyed".
fn io(stat: &str) -> Vec<IoStatistics> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut device = IoStatistics {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            ..IoStatistics::default()
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let field = match key {
                "rbytes" => &mut device.read_bytes,
                "wbytes" => &mut device.written_bytes,
                "rios" => &mut device.reads,
                "wios" => &mut device.writes,
                "dbytes" => &mut device.discarded_bytes,
                "dios" => &mut device.discards,
                _ => continue,
            };
            *field = value.parse().ok()?;
        }
        Some(device)
    };
    stat.lines().filter_map(line).take(Statistics::MAX_DEVICES).collect()
}

/// None where the kernel was not told to measure it.
fn pressure_of(files: &Files, controller: &str) -> Option<Pressure> {
    files.read(&format!("{controller}.pressure")).ok().and_then(|text| pressure(&text))
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let word =
            |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some(PressureShares {
            avg10: hundredths(word("avg10")?)?,
            avg60: hundredths(word("avg60")?)?,
            avg300: hundredths(word("avg300")?)?,
            total: word("total")?.parse().ok()?,
        })
    };
    // The processors' has no second line on older kernels.
    Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
}

/// `12.34` → 1234. The kernel always writes two digits behind the point.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    (part.len() == 2).then_some(())?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let stat = "usage_usec 12\nuser_usec 5\nsystem_usec 7\ncore_sched.force_idle_usec 0\nnr_periods 3\n\
                    nr_throttled 2\nthrottled_usec 1\nnr_bursts 0\nburst_usec 0\n";
        let expected = CpuStatistics {
            usage: 12,
            user: 5,
            system: 7,
            periods: 3,
            throttled_periods: 2,
            throttled: 1,
            ..CpuStatistics::default()
        };
        assert_eq!(cpu(stat, None), expected);
    }

    #[test]
    fn devices() {
        let stat =
            "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n254:16 \nbroken\n7:x rbytes=1\n";
        let first =
            IoStatistics { major: 254, minor: 0, read_bytes: 4096, reads: 1, ..IoStatistics::default() };
        let second = IoStatistics { major: 254, minor: 16, ..IoStatistics::default() };
        assert_eq!(io(stat), [first, second]);
    }

    #[test]
    fn pressures() {
        let text = "some avg10=1.05 avg60=0.00 avg300=100.00 total=77\nfull avg10=0.00 avg60=0.10 avg300=0.00 total=5\n";
        let read = pressure(text).unwrap();
        assert_eq!(read.some, PressureShares { avg10: 105, avg60: 0, avg300: 10_000, total: 77 });
        assert_eq!(read.full, PressureShares { avg10: 0, avg60: 10, avg300: 0, total: 5 });
        assert_eq!(pressure("some avg10=x"), None);
        assert_eq!(pressure(""), None);
    }
}
