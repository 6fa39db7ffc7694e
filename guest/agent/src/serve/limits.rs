//! `Update` and `Statistics`: what the container may use, and what it uses.

use msb_agent::protocol::{Failure, GuestLimits, Reply};

use crate::agent::Agent;
use crate::container::cgroup::{limits, statistics};

/// Holds the container to other limits.
///
/// # Errors
/// [`Failure::WrongState`] before the container is created, [`Failure::Setup`] with the file that the kernel refuses.
pub fn update(agent: &Agent, new: &GuestLimits) -> Result<Reply, Failure> {
    agent.container()?;
    limits::apply(new).map(|()| Reply::Done)
}

/// What it uses.
///
/// # Errors
/// [`Failure::WrongState`] before the container is created.
pub fn statistics(agent: &Agent) -> Result<Reply, Failure> {
    agent.container()?;
    Ok(Reply::Statistics(Box::new(statistics::read_all())))
}
