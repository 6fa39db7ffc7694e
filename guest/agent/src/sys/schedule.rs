//! How this process is scheduled, on processors and on disks.

use msb_agent::protocol::Scheduler;
use nix::errno::Errno;

/// sched_setattr(2).
pub fn set_scheduler(scheduler: &Scheduler) -> Result<(), Errno> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).map_err(|_| Errno::E2BIG)?,
        sched_policy: scheduler.policy,
        sched_flags: scheduler.flags,
        sched_nice: scheduler.nice,
        sched_priority: scheduler.priority,
        sched_runtime: scheduler.runtime,
        sched_deadline: scheduler.deadline,
        sched_period: scheduler.period,
    };
    // SAFETY: reads one sched_attr of the size that it names; 0 is this process.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// ioprio_set(2), with class and level as `IOPRIO_PRIO_VALUE` of linux/ioprio.h has them.
pub fn set_io_priority(priority: u16) -> Result<(), Errno> {
    /// linux/ioprio.h
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let priority = libc::c_int::from(priority);
    // SAFETY: plain numbers go in; 0 is this process.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}
