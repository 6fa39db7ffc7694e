//! What the walls around a VMM cost a start, and an idle sandbox.
//!
//! Settings can take the walls away, and then the VMM is still a process of its own beside the sandbox's. What that second
//! process costs is measured apart, from above: its fork, with the tracer that tells of it, and all memory that the smaller of
//! the two processes shares with nobody, some of which a single process would need as well. Page tables are the kernel's, and
//! are not in it.
//!
//! In: what the other modules measured. Out: the sum, and whether it is more than was promised.

use anyhow::{Context, Result, ensure};

use super::report::{Ms, Report};

/// What all runs by a name of [`Report::commands`].
pub const WITH: &str = "msb-runtime run";
/// The same without walls.
pub const WITHOUT: &str = "msb-runtime run, without walls";
/// The moment's name of the second process.
pub const FORK: &str = "our VMM: its process's fork, traced";

/// The most that a start may take longer, in nanoseconds.
const TIME: u64 = 3_000_000;
/// The most that a sandbox may keep in addition, in KiB.
const MEMORY_KIB: u64 = 512;

/// What they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    time_ns: u64,
    memory_kib: u64,
}

impl Cost {
    /// Of a report that has all of it.
    ///
    /// # Errors
    /// When it has not.
    pub fn of(report: &Report) -> Result<Self> {
        let command = |name: &str| {
            let found = report.commands.iter().find(|(known, _)| known == name);
            found.map(|(_, measured)| measured.first_output_ns).with_context(|| format!("No row {name}"))
        };
        let fork = report.moments_ns.iter().find(|(name, _)| name == FORK);
        let fork = fork.with_context(|| format!("No moment {FORK}"))?.1;
        let memory = report.memory.context("No memory")?;
        let without = report.memory_without_walls.context("No memory without walls")?;
        Ok(Self {
            time_ns: command(WITH)?.saturating_sub(command(WITHOUT)?) + fork,
            memory_kib: memory.overhead_kib.saturating_sub(without.overhead_kib) + memory.second_kib,
        })
    }

    /// Fails if it is more than it may be.
    ///
    /// # Errors
    /// Says what is too much.
    pub fn judge(self) -> Result<()> {
        let Self { time_ns, memory_kib } = self;
        ensure!(
            time_ns <= TIME && memory_kib <= MEMORY_KIB,
            "The walls and the VMM's own process cost {} ms and {memory_kib} KiB: more than {} ms or {MEMORY_KIB} KiB",
            Ms(time_ns),
            Ms(TIME)
        );
        Ok(())
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (time, most) = (Ms(self.time_ns), Ms(TIME));
        let memory = self.memory_kib;
        write!(
            f,
            "Walls and the VMM's own process: {time} ms of {most} at most, {memory} KiB of {MEMORY_KIB}, from above"
        )
    }
}

/// The longest fork in a log of `strace -f -T`, in nanoseconds. Threads and programs that are executed are none: they share
/// their memory with who makes them.
#[must_use]
pub fn longest_fork(log: &str) -> Option<u64> {
    let forks = log.lines().filter(|line| line.contains("clone") || line.contains("fork("));
    let forks = forks.filter(|line| !line.contains("CLONE_VM"));
    let took = |line: &str| {
        let seconds = line.trim_end().strip_suffix('>')?.rsplit_once('<')?.1;
        let (whole, micros) = seconds.split_once('.')?;
        Some(whole.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1_000)
    };
    forks.filter_map(took).max()
}

#[cfg(test)]
mod tests {
    use super::super::{memory::Memory, report::Measured};
    use super::*;

    fn report(with_ns: u64, with_kib: u64) -> Report {
        let mut report = Report::default();
        report.add(WITH, Measured { first_output_ns: with_ns, ..Measured::default() });
        report.add(WITHOUT, Measured { first_output_ns: 50_000_000, ..Measured::default() });
        report.moment(FORK, 400_000);
        report.memory = Some(Memory { overhead_kib: with_kib, second_kib: 200, ..Memory::default() });
        report.memory_without_walls = Some(Memory { overhead_kib: 3000, ..Memory::default() });
        report
    }

    #[test]
    fn more_than_was_promised_fails() {
        let cost = Cost::of(&report(52_000_000, 3100)).unwrap();
        assert_eq!(cost, Cost { time_ns: 2_400_000, memory_kib: 300 });
        cost.judge().unwrap();
        assert!(Cost::of(&report(52_700_000, 3100)).unwrap().judge().is_err());
        assert!(Cost::of(&report(52_000_000, 3400)).unwrap().judge().is_err());
        Cost::of(&Report { memory_without_walls: None, ..report(1, 1) }).unwrap_err();
    }

    #[test]
    fn threads_are_no_forks() {
        let log = "7 clone3({flags=CLONE_VM|CLONE_VFORK, …}, 88) = 8 <0.004000>\n\
                   8 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f) = 9 <0.000321>\n\
                   8 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n\
                   8 <... clone resumed>) = 10 <0.000500>\n";
        assert_eq!(longest_fork(log), Some(500_000));
        assert_eq!(longest_fork("7 clone3({flags=CLONE_VM}) = 8 <0.1>\n"), None);
    }
}
