//! What the container is held to inside the guest: cgroup version 2 as the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst` has it. What it costs the host is limited there.

use serde::{Deserialize, Serialize};

/// Absent: left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLimits {
    /// `memory.max`, in bytes.
    pub memory: Option<Amount>,
    /// A `memory` below what is used now is refused; otherwise the kernel takes back, and kills for, what is beyond.
    pub check_memory: bool,
    /// `memory.low`, in bytes.
    pub reservation: Option<Amount>,
    /// `memory.swap.max`, in bytes: swap alone.
    pub swap: Option<Amount>,
    /// `pids.max`
    pub pids: Option<Amount>,
    /// `cpu.weight`: 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// `cpu.idle`
    pub cpu_idle: Option<bool>,
    /// First word of `cpu.max`, in microseconds.
    pub cpu_quota: Option<Amount>,
    /// Second word of `cpu.max`, in microseconds.
    pub cpu_period: Option<u64>,
    /// `cpu.max.burst`, in microseconds.
    pub cpu_burst: Option<u64>,
    /// Runs on no more than so many of the guest's processors. Which of the host's these are is the host's matter.
    pub cpus: Option<u32>,
    /// `hugetlb.SIZE.max`, one for each size of page.
    pub huge_pages: Vec<HugePages>,
    /// Other files of the cgroup and what is written to them, in this order, after all else.
    pub unified: Vec<(String, String)>,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// No limit (`max`).
    Unlimited,
    /// So many.
    Of(u64),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("max"),
            Self::Of(number) => number.fmt(f),
        }
    }
}

/// One entry of `hugepageLimits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// As in the file's name: `2MB`, `1GB`.
    pub page_size: String,
    /// In bytes.
    pub limit: u64,
}
