//! What an exec gets from the container where its own `process` leaves it open.

use msb_agent::protocol::Process;

/// Fills in, as runc does, what `exec` does not say from `init`, the container's first process. The filter of system calls
/// is the container's in any case: no exec may do without.
pub fn inherit(exec: &mut Process, init: &Process) {
    exec.seccomp.clone_from(&init.seccomp);
    exec.user.umask = exec.user.umask.or(init.user.umask);
    if exec.capabilities.is_none() {
        exec.capabilities.clone_from(&init.capabilities);
    }
    // Not its own, if the container has one.
    exec.oom_score_adj = init.oom_score_adj.or(exec.inherited_oom_score_adj);
    exec.scheduler = exec.scheduler.or(init.scheduler);
    exec.io_priority = exec.io_priority.or(init.io_priority);
    if exec.cpu_affinity.is_none() {
        exec.cpu_affinity.clone_from(&init.cpu_affinity);
    }
}
