//! `Freeze` and `Thaw`: the container stands still, with all that it wrote on its disks.

use msb_agent::protocol::{Failure, Reply};

use crate::agent::Agent;

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

/// Lets them go on; no error if they do already.
///
/// # Errors
/// As [`freeze`].
pub fn thaw(agent: &Agent) -> Result<Reply, Failure> {
    agent.container()?.cgroup.thaw().map(|()| Reply::Done)
}
