//! `Exec` and `Release`: one more process in the running container.

use std::sync::{Arc, PoisonError};

use msb_agent::protocol::{Failure, Process, Reply};

use super::{Answer, Channel};
use crate::agent::Agent;
use crate::container::made::Made;
use crate::process::helper::Job;
use crate::process::inherit::inherit;
use crate::process::record::Record;
use crate::process::spawn;

/// A process up to its execve; one at a time waits on a channel, because `Release` names none.
pub fn exec(
    agent: &Agent,
    channel: &Arc<Channel>,
    made: &Arc<Made>,
    waiting: &mut Option<Arc<Record>>,
    mut process: Box<Process>,
) -> Answer {
    if waiting.is_some() {
        return Err(wrong("a process of this channel still waits for its release"));
    }
    let init = made.init().ok_or_else(|| wrong("the container was not created yet"))?;
    if init.control.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        return Err(wrong("the container was not started yet"));
    }
    // A container that has ended has no namespaces to join.
    agent.registry().alive(init.id)?;
    inherit(&mut process, &made.asked);
    let job = Job::Exec { process, isolation: made.isolation.clone() };
    let record = spawn::create(agent, channel, made, &job)?;
    *waiting = Some(Arc::clone(&record));
    Ok((Reply::Created { process: record.id, pid: record.pid.cast_unsigned() }, Some(record)))
}

/// Lets the waiting process go.
pub fn release(waiting: &mut Option<Arc<Record>>) -> Result<Reply, Failure> {
    let record = waiting.take().ok_or_else(|| wrong("no process of this channel waits"))?;
    spawn::release(&record).map(|()| Reply::Done)
}

fn wrong(reason: &str) -> Failure {
    Failure::WrongState { reason: reason.into() }
}
