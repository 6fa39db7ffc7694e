//! `Create` and `Start`: the container and its first process.

use std::sync::Arc;

use msb_agent::protocol::{Container, Failure, ProcessId, Reply};

use super::{Answer, Channel};
use crate::agent::{Agent, Made};
use crate::container::{cgroup::Cgroup, root};
use crate::process::helper::Job;
use crate::process::spawn;

/// Root, cgroup and first process, up to its execve.
pub fn create(agent: &Agent, channel: &Arc<Channel>, container: Box<Container>) -> Answer {
    agent.registry().claim()?;
    let mounted = root::mount_root(&container.root)?;
    agent.set_container(Made::new(mounted, Cgroup::create()?, container.namespaces.clone()));
    let record = spawn::create(agent, channel, &Job::Init(container))?;
    agent.container()?.set_init(&record);
    Ok((Reply::Created { process: record.id }, Some(record)))
}

/// Lets the first process go.
pub fn start(agent: &Agent) -> Result<Reply, Failure> {
    agent.container()?;
    let record = Arc::clone(agent.registry().alive(ProcessId::INIT)?);
    spawn::release(&record).map(|()| Reply::Done)
}
