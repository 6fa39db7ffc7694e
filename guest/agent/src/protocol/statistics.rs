//! What the container uses, and who is in it: read from its cgroup in the guest and from `/proc`.
//!
//! Times are in microseconds and sizes in bytes where nothing else is said. `None`: the guest's kernel has no such file.

use serde::{Deserialize, Serialize};

use super::Amount;

/// Answer to [`super::Request::Statistics`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// `cpu.stat`
    pub cpu: CpuStatistics,
    /// `memory.*`
    pub memory: Option<MemoryStatistics>,
    /// `pids.*`
    pub pids: Option<PidsStatistics>,
    /// `io.stat`, one for each device of the guest.
    pub io: Vec<IoStatistics>,
    /// `io.pressure`
    pub io_pressure: Option<Pressure>,
    /// `hugetlb.*`, one for each size of page.
    pub huge_pages: Vec<HugePagesStatistics>,
}

impl Statistics {
    /// Most devices, and most sizes of pages, that are told.
    pub const MAX_DEVICES: usize = 256;
}

/// Of the processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStatistics {
    /// `usage_usec`
    pub usage: u64,
    /// `user_usec`
    pub user: u64,
    /// `system_usec`
    pub system: u64,
    /// `nr_periods`
    pub periods: u64,
    /// `nr_throttled`
    pub throttled_periods: u64,
    /// `throttled_usec`
    pub throttled: u64,
    /// `nr_bursts`
    pub bursts: u64,
    /// `burst_usec`
    pub burst: u64,
    /// `cpu.pressure`
    pub pressure: Option<Pressure>,
}

/// Of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatistics {
    /// `memory.current`
    pub current: u64,
    /// `memory.peak`
    pub peak: Option<u64>,
    /// `memory.max`
    pub max: Amount,
    /// `memory.swap.current`
    pub swap: Option<u64>,
    /// `memory.swap.max`
    pub swap_max: Option<Amount>,
    /// `memory.events`
    pub events: MemoryEvents,
    /// `memory.stat` in its order, at most [`Self::MAX_STAT`] lines.
    pub stat: Vec<(String, u64)>,
    /// `memory.pressure`
    pub pressure: Option<Pressure>,
}

impl MemoryStatistics {
    /// Most lines of `memory.stat` that are told.
    pub const MAX_STAT: usize = 128;
}

/// How often what happened for want of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    /// `low`
    pub low: u64,
    /// `high`
    pub high: u64,
    /// `max`
    pub max: u64,
    /// `oom`
    pub oom: u64,
    /// `oom_kill`: processes killed.
    pub oom_kill: u64,
    /// `oom_group_kill`
    pub oom_group_kill: u64,
}

/// Of processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsStatistics {
    /// `pids.current`
    pub current: u64,
    /// `pids.max`
    pub max: Amount,
}

/// Of one block device of the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoStatistics {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// `rbytes`
    pub read_bytes: u64,
    /// `wbytes`
    pub written_bytes: u64,
    /// `rios`
    pub reads: u64,
    /// `wios`
    pub writes: u64,
    /// `dbytes`
    pub discarded_bytes: u64,
    /// `dios`
    pub discards: u64,
}

/// Of huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePagesStatistics {
    /// `2MB`, `1GB`
    pub page_size: String,
    /// `hugetlb.SIZE.current`
    pub current: u64,
    /// `hugetlb.SIZE.max`
    pub max: Amount,
    /// `max` of `hugetlb.SIZE.events`: how often the limit was met.
    pub failures: u64,
}

/// Pressure stall information (kernel, `Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureShares,
    /// All tasks waited.
    pub full: PressureShares,
}

/// A line of pressure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressureShares {
    /// Of the last 10 seconds, in hundredths of a percent.
    pub avg10: u32,
    /// Of the last minute, likewise.
    pub avg60: u32,
    /// Of the last five minutes, likewise.
    pub avg300: u32,
    /// In microseconds.
    pub total: u64,
}

/// One process of the container, as the guest's first pid namespace has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its pid.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Effective user id, as the guest's first user namespace has it.
    pub uid: u32,
    /// `R`, `S`, `D`, … (proc_pid_stat(5)).
    pub state: char,
    /// At most 15 bytes, as the kernel keeps it.
    pub name: String,
    /// `argv`, together at most [`Self::MAX_ARGS`] bytes; empty for a process that has none left.
    pub args: Vec<String>,
    /// When it started, in seconds since 1970 by the guest's clock.
    pub started: u64,
    /// Processor time in milliseconds.
    pub cpu: u64,
    /// Memory in RAM, in bytes.
    pub resident: u64,
}

impl ProcessInfo {
    /// Most bytes of arguments that are told of one process.
    pub const MAX_ARGS: usize = 4096;
    /// Most bytes of all arguments of one answer, with one for the end of each: of processes beyond, `args` is empty.
    pub const MAX_ALL_ARGS: usize = 512 << 10;
    /// Most processes that are told.
    pub const MAX: usize = 16_384;
}
