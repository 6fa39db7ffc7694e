//! `process.scheduler`, `process.ioPriority` and `process.execCPUAffinity` → the kernel's numbers.

use msb_agent::protocol::Scheduler;
use oci_spec::runtime::{
    self as oci, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy,
};

use super::ConfigError;

/// Where the class begins (`IOPRIO_CLASS_SHIFT`, linux/ioprio.h).
const IOPRIO_CLASS_SHIFT: u16 = 13;

/// Numbers of processors that sched_setaffinity(2) is given are below this (`CPU_SETSIZE`).
const MAX_PROCESSORS: u16 = 1024;

/// What sched_setattr(2) gets. Which values go with which policy was checked.
pub fn scheduler(scheduler: &oci::Scheduler) -> Result<Scheduler, ConfigError> {
    // linux/sched.h
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => return Err(ConfigError::SchedulerIso),
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    Ok(Scheduler {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, one| all | one),
        nice: scheduler.nice().unwrap_or_default(),
        priority: scheduler.priority().and_then(|value| u32::try_from(value).ok()).unwrap_or_default(),
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
    })
}

/// What ioprio_set(2) gets. The level was checked.
pub fn io_priority(priority: &LinuxIOPriority) -> u16 {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    (class << IOPRIO_CLASS_SHIFT) | u16::try_from(priority.priority()).unwrap_or_default()
}

/// The processors of a list such as `0-3,7`.
pub fn processors(list: &str) -> Result<Vec<u16>, ConfigError> {
    let broken = || ConfigError::ExecCpuList { text: list.into() };
    let number = |text: &str| text.parse().ok().filter(|number| *number < MAX_PROCESSORS).ok_or_else(broken);
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (number(first)?, number(last)?);
        if last < first {
            return Err(broken());
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("3,0-1,1"), Ok(vec![0, 1, 3]));
        assert_eq!(processors("1023"), Ok(vec![1023]));
        for bad in ["", "1-", "2-1", "1024", "0-4000000000", "a"] {
            assert_eq!(processors(bad), Err(ConfigError::ExecCpuList { text: bad.into() }));
        }
    }

    #[test]
    fn the_kernels_numbers() {
        let of = |value| scheduler(&serde_json::from_value(value).unwrap());
        let fifo = of(
            json!({ "policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RECLAIM", "SCHED_RESET_ON_FORK"] }),
        );
        let fifo = fifo.unwrap();
        assert_eq!((fifo.policy, fifo.priority, fifo.flags), (1, 7, 3));
        assert_eq!(of(json!({ "policy": "SCHED_ISO" })), Err(ConfigError::SchedulerIso));
        let idle = serde_json::from_value(json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 })).unwrap();
        assert_eq!(io_priority(&idle), 0x6000);
    }
}
