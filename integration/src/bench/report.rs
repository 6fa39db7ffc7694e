//! The benchmarks' results: a table for people, JSON for the next comparison.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{disks::VMMS, memory::Memory, network::RUNNERS, volumes::PLACES, walls::Cost};

/// Medians of one command, in nanoseconds of the virtual host, which are instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// From exec to the container's first output.
    pub first_output_ns: u64,
    /// From exec to the command's end.
    pub exit_ns: u64,
    /// User and system time of all its processes.
    pub cpu_ns: u64,
    /// Every counted run's first output, for a look at the spread.
    pub first_output_all: Vec<u64>,
}

/// Something that was asked for again and again, in nanoseconds of the virtual host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How often.
    pub count: u64,
    /// All of it.
    pub took_ns: u64,
    /// The median of one.
    pub median_ns: u64,
    /// The slowest.
    pub slowest_ns: u64,
}

impl Rate {
    /// Of how long all took, and each.
    #[must_use]
    pub fn of(took_ns: u64, all_ns: &[u64]) -> Self {
        Self {
            count: u64::try_from(all_ns.len()).unwrap_or(u64::MAX),
            took_ns,
            median_ns: median(all_ns.iter().copied()),
            slowest_ns: all_ns.iter().copied().max().unwrap_or(0),
        }
    }

    /// Tenths of one each second.
    fn tenths_a_second(&self) -> u64 {
        self.count.saturating_mul(10_000_000_000) / self.took_ns.max(1)
    }
}

/// Many at once: how long until all ran, and what each keeps, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Many {
    /// Nanoseconds.
    pub took_ns: u64,
    /// The VMM without its guest's RAM, or the container's process.
    pub own_kib: u64,
    /// Of the guest's RAM.
    pub guest_kib: u64,
    /// Who keeps it: our keeper, or a shim.
    pub keeper_kib: u64,
}

/// Everything measured in one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Everything was run once or twice only: that it runs was asked, not what it takes.
    pub brief: bool,
    /// How often a host stood still and all of its part was measured anew in another: see [`super::turns`].
    pub standstills: u32,
    /// In the order measured.
    pub commands: Vec<(String, Measured)>,
    /// Roots, in the order measured.
    pub roots: Vec<(String, Measured)>,
    /// From the exec of the program named to what is said of it.
    pub moments_ns: Vec<(String, u64)>,
    /// Each case of the guest's disks, and how long it took with each VMM.
    pub disks: Vec<(String, Vec<u64>)>,
    /// Each case of the guest's network, and how long it took with each runner.
    pub network: Vec<(String, Vec<u64>)>,
    /// Each case of a volume, and how long it took in each place.
    pub volumes: Vec<(String, Vec<u64>)>,
    /// Of an idle sandbox.
    pub memory: Option<Memory>,
    /// The same without walls.
    pub memory_without_walls: Option<Memory>,
    /// What was asked for again and again, some at a time.
    pub rates: Vec<(String, Rate)>,
    /// Sandboxes or containers that were started at once.
    pub many: Vec<(String, Many)>,
    /// What one sandbox keeps with each of containerd's shims, in KiB.
    pub shims_kib: Vec<(String, u64)>,
    /// Sizes of what is shipped, in bytes.
    pub sizes: BTreeMap<String, u64>,
}

impl Report {
    /// Runs of a case that has `whole` of them where what it takes is asked; the first, which warms caches, is one of them.
    #[must_use]
    pub fn runs(&self, whole: usize) -> usize {
        if self.brief { whole.min(2) } else { whole }
    }

    /// Takes in what was measured in another host by the wall's clock.
    pub fn join(&mut self, timed: Self) {
        self.standstills += timed.standstills;
        (self.disks, self.network) = (timed.disks, timed.network);
        (self.volumes, self.many) = (timed.volumes, timed.many);
    }

    /// One more command.
    pub fn add(&mut self, name: &str, measured: Measured) {
        self.commands.push((name.to_owned(), measured));
    }

    /// One more moment.
    pub fn moment(&mut self, name: &str, nanoseconds: u64) {
        self.moments_ns.push((name.to_owned(), nanoseconds));
    }
}

/// The middle one; of an even number, the mean of the two in the middle; 0 of none.
#[must_use]
pub fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    match values.len() {
        0 => 0,
        count if count % 2 == 1 => values[count / 2],
        count => values[count / 2 - 1].midpoint(values[count / 2]),
    }
}

/// Milliseconds with two digits, without floating point.
pub(super) struct Ms(pub(super) u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.0 + 5_000) / 10_000;
        f.pad(&format!("{}.{:02}", hundredths / 100, hundredths % 100))
    }
}

/// How many hundredths of `of` there are in `part`.
fn percent(part: u64, of: u64) -> u64 {
    part.saturating_mul(100) / of.max(1)
}

/// A table of commands, by instructions.
fn commands(f: &mut fmt::Formatter<'_>, what: &str, all: &[(String, Measured)]) -> fmt::Result {
    writeln!(f, "{what:<42} {:>12} {:>10} {:>10}", "first output", "exit", "CPU")?;
    for (name, measured) in all {
        let (output, exit, cpu) = (Ms(measured.first_output_ns), Ms(measured.exit_ns), Ms(measured.cpu_ns));
        writeln!(f, "{name:<42} {output:>12} {exit:>10} {cpu:>10}")?;
    }
    Ok(())
}

/// A table of cases by the wall's clock, with a column for each of `names`, of which the first is ours; nothing without
/// cases. `ratio` says by ours and the others what is `compared`, in percent.
fn sides(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    names: &[(&str, &str)],
    compared: &str,
    cases: &[(String, Vec<u64>)],
    ratio: impl Fn(u64, &[u64]) -> u64,
) -> fmt::Result {
    if !cases.is_empty() {
        write!(f, "\n{:<30}", format!("{what} (wall clock, best)"))?;
        names.iter().try_for_each(|(name, _)| write!(f, " {name:>15}"))?;
        writeln!(f, " {compared:>14}")?;
    }
    for (name, times) in cases {
        write!(f, "{name:<30}")?;
        times.iter().try_for_each(|time| write!(f, " {:>15}", Ms(*time)))?;
        let (ours, others) = times.split_first().map_or((0, [].as_slice()), |(ours, others)| (*ours, others));
        writeln!(f, " {:>13}%", ratio(ours, others))?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.brief {
            writeln!(
                f,
                "Brief: each case once. What it takes is told by `cargo dev bench` without --brief."
            )?;
        } else {
            writeln!(
                f,
                "Milliseconds in the virtual host, where one instruction is one nanosecond; medians.\n"
            )?;
        }
        commands(f, "command", &self.commands)?;
        writeln!(f, "\n{:<66} {:>10}", "moment from exec, or work alone", "ms")?;
        for (name, moment) in &self.moments_ns {
            writeln!(f, "{name:<66} {:>10}", Ms(*moment))?;
        }
        if !self.rates.is_empty() {
            writeln!(f, "\n{:<42} {:>12} {:>10} {:>10}", "asked for", "each second", "median", "slowest")?;
        }
        for (name, rate) in &self.rates {
            let (tenths, median, slowest) = (rate.tenths_a_second(), Ms(rate.median_ns), Ms(rate.slowest_ns));
            let each = format!("{}.{}", tenths / 10, tenths % 10);
            writeln!(f, "{name:<42} {each:>12} {median:>10} {slowest:>10}")?;
        }
        for (name, many) in &self.many {
            let Many { took_ns, own_kib, guest_kib, keeper_kib } = *many;
            writeln!(
                f,
                "{name}: {} ms until all ran; each {own_kib} KiB PSS of its own and {keeper_kib} KiB of its keeper or shim, \
                 {guest_kib} KiB of guest RAM",
                Ms(took_ns)
            )?;
        }
        if !self.roots.is_empty() {
            writeln!(f)?;
            commands(f, "root", &self.roots)?;
        }
        let first = |times: &[u64]| times.first().copied().unwrap_or(0);
        sides(f, "disk", &VMMS, "to QEMU's", &self.disks, |ours, others| {
            percent(ours, others.iter().min().copied().unwrap_or(0))
        })?;
        sides(f, "network", &RUNNERS, "speed of vhost", &self.network, |ours, others| {
            percent(first(others), ours)
        })?;
        sides(f, "volume", &PLACES, "to runc's", &self.volumes, |ours, others| percent(ours, first(others)))?;
        if self.standstills > 0 {
            writeln!(
                f,
                "\n{} times a virtual host stood still; what is told is from another.",
                self.standstills
            )?;
        }
        for (what, memory) in [("", self.memory), (", without walls", self.memory_without_walls)] {
            let Some(memory) = memory else { continue };
            writeln!(
                f,
                "\nIdle sandbox{what}: {} KiB PSS without guest RAM ({} KiB anonymous), {} KiB of guest RAM, {} threads; its \
                 second process has {} KiB alone",
                memory.overhead_kib,
                memory.anonymous_kib,
                memory.guest_kib,
                memory.threads,
                memory.second_kib
            )?;
        }
        if let Ok(cost) = Cost::of(self) {
            writeln!(f, "{cost}")?;
        }
        for (name, kib) in &self.shims_kib {
            writeln!(f, "Idle sandbox, {name}: {kib} KiB PSS of its shim, and of its VMM without guest RAM")?;
        }
        writeln!(f, "\n{:<42} {:>12}", "file", "bytes")?;
        for (name, size) in &self.sizes {
            writeln!(f, "{name:<42} {size:>12}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3, 1, 2].into_iter()), 2);
        assert_eq!(median([4, 1, 2, 3].into_iter()), 2);
        assert_eq!(median([10, 20].into_iter()), 15);
        assert_eq!(median([].into_iter()), 0);
    }

    #[test]
    fn milliseconds_are_rounded() {
        assert_eq!(Ms(12_345_678).to_string(), "12.35");
        assert_eq!(Ms(4_999).to_string(), "0.00");
        assert_eq!(format!("{:>8}", Ms(1_000_000)), "    1.00");
    }

    #[test]
    fn a_rate_is_told_by_the_second() {
        let rate = Rate::of(2_000_000_000, &[400_000_000, 100_000_000, 200_000_000]);
        assert_eq!((rate.median_ns, rate.slowest_ns, rate.tenths_a_second()), (200_000_000, 400_000_000, 15));
        let report = Report { rates: vec![("asked".into(), rate)], ..Report::default() };
        assert!(report.to_string().contains("1.5     200.00     400.00"), "{report}");
    }

    #[test]
    fn a_report_has_a_line_for_each_case() {
        let mut report = Report::default();
        report.add("runc run", Measured { first_output_ns: 45_700_000, ..Measured::default() });
        report.moment("QEMU microvm", 150_800_000);
        report.disks.push(("4k-random-read".to_owned(), vec![3_000_000, 5_000_000, 4_000_000]));
        let text = report.to_string();
        assert!(!text.contains("Brief") && report.runs(11) == 11);
        let brief = Report { brief: true, ..report.clone() };
        assert!(brief.to_string().starts_with("Brief") && brief.runs(11) == 2 && brief.runs(1) == 1);
        assert!(text.contains("runc run") && text.contains("45.70") && text.contains("150.80"), "{text}");
        report.network.push(("tcp-send".to_owned(), vec![2_000_000, 1_000_000, 4_000_000, 500_000]));
        let with_network = report.to_string();
        assert!(with_network.contains("tcp-send") && with_network.contains("50%"), "{with_network}");
        report.volumes.push(("list".to_owned(), vec![3_000_000, 2_000_000, 1_000_000]));
        assert!(report.to_string().contains("150%"), "{report}");
        assert!(text.contains("4k-random-read") && text.contains("75%"), "{text}");
    }
}
