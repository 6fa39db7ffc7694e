//! The VMM's side of the control socket: one question of one caller at a time.

use std::{io, os::unix::net::UnixListener, time::Duration};

use msb_agent::protocol::{self, CHANNEL_PORT, ProcessId, Reply, Request, STREAM_PORT};

use super::control::{Answer, Question};
use crate::{
    machine::MachineHandle,
    process::agent::{Agent, AgentError},
};

/// A caller that connects and says nothing must not keep the sandbox from its work.
const SAY_SOMETHING: Duration = Duration::from_secs(5);

/// Answers the caller that waits at `listener`.
///
/// # Errors
/// Only the agent's loss; what is wrong with one caller concerns that caller alone.
pub(super) fn one(
    listener: &UnixListener,
    agent: &mut Agent,
    machine: &MachineHandle,
) -> Result<(), AgentError> {
    let Ok((mut stream, _)) = listener.accept() else { return Ok(()) };
    let timeout = Some(SAY_SOMETHING);
    let prepared: io::Result<()> =
        stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
    let (Ok(()), Ok(question)) = (prepared, protocol::read(&mut stream)) else { return Ok(()) };
    let answer = match question {
        Question::Open { port: port @ (CHANNEL_PORT | STREAM_PORT) } => {
            if protocol::write(&mut stream, &Answer::Done).is_ok()
                && stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None)).is_ok()
            {
                // A machine that can't take it has ended: closing the stream says so.
                let _ = machine.connect(port, stream);
            }
            return Ok(());
        }
        Question::Open { port } => Answer::Failed(format!("Port {port} of the guest is not open to callers")),
        Question::Start => answered(agent.call(Request::Start))?,
        Question::Processes => answered(agent.call(Request::Processes))?,
        Question::Freeze => answered(agent.call(Request::Freeze))?,
        Question::Thaw => answered(agent.call(Request::Thaw))?,
        Question::Signal { signal, all } => {
            answered(agent.call(Request::Signal { process: ProcessId::INIT, signal, all }))?
        }
    };
    // A caller that has gone does not want its answer.
    let _ = protocol::write(&mut stream, &answer);
    Ok(())
}

fn answered(result: Result<Reply, AgentError>) -> Result<Answer, AgentError> {
    match result {
        Ok(Reply::Done) => Ok(Answer::Done),
        Ok(Reply::Processes(processes)) => {
            Ok(Answer::Processes(processes.iter().map(|process| process.pid).collect()))
        }
        Ok(Reply::Created { .. } | Reply::Statistics(_)) => Err(AgentError::Unexpected),
        Err(AgentError::Failed(failure)) => Ok(Answer::Guest(failure)),
        Err(error) => Err(error),
    }
}
