//! `Freeze` and `Thaw`: the container stands still, with all that it wrote on its disks.

use std::time::Duration;

use msb_agent::protocol::{Failure, Reply};

use crate::agent::Agent;
use crate::{clock, log};

/// Stops the processes, then writes back. A container whose writes can't be brought to the disk is not left frozen.
///
/// # Errors
/// [`Failure::WrongState`] before the container is created, [`Failure::Setup`] for what the kernel refuses.
pub fn freeze(agent: &Agent) -> Result<Reply, Failure> {
    let made = agent.container()?;
    made.cgroup.freeze()?;
    if let Err(failure) = made.root.sync() {
        made.cgroup.thaw()?;
        return Err(failure);
    }
    Ok(Reply::Done)
}

/// Lets them go on, with the clock at the host's `realtime`; no error if they do already.
///
/// # Errors
/// As [`freeze`].
pub fn thaw(agent: &Agent, realtime: Duration) -> Result<Reply, Failure> {
    // A container with a wrong clock is better than one that stays frozen.
    if let Err(errno) = clock::follow(realtime) {
        log::failure("set the clock", &errno);
    }
    agent.container()?.cgroup.thaw().map(|()| Reply::Done)
}
