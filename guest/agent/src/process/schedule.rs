//! `process.scheduler`, `process.ioPriority` and `process.execCPUAffinity`, while all may still be asked for.

use msb_agent::protocol::{Failure, Process};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::container::{at, plain};
use crate::sys;

/// Sets what is asked for.
///
/// # Errors
/// [`Failure::Setup`] with what the kernel said, such as to processors that the machine has not.
pub fn set(process: &Process) -> Result<(), Failure> {
    if let Some(processors) = &process.cpu_affinity {
        affinity(processors).map_err(plain).map_err(at(|| {
            format!("run on the processors {processors:?} of the machine (execCPUAffinity)")
        }))?;
    }
    if let Some(priority) = process.io_priority {
        sys::set_io_priority(priority).map_err(plain).map_err(at(|| "set the I/O priority".into()))?;
    }
    if let Some(scheduler) = &process.scheduler {
        sys::set_scheduler(scheduler).map_err(plain).map_err(at(|| "set the scheduler".into()))?;
    }
    Ok(())
}

fn affinity(processors: &[u16]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(usize::from(*processor))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}
