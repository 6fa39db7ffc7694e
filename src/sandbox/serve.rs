//! The VMM's side of the control socket: one question of one caller at a time.
//!
//! A container that is paused stands still twice: its processes are frozen by the guest's kernel, so that nothing is half
//! done, and then the machine's processors, so that nothing runs. What is asked of the guest meanwhile wakes only the
//! processors, and only for the answer.

use std::{
    io,
    os::unix::net::UnixListener,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msb_agent::protocol::{self, CHANNEL_PORT, Reply, Request, STREAM_PORT};

use super::{
    chain,
    control::{Answer, Question},
    network::{self, Network},
};
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
    network: &mut Option<Network>,
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
        Question::Start { hooks } => start(agent, network, hooks)?,
        Question::Processes => awake(agent, machine, Request::Processes)?,
        Question::Update(limits) => awake(agent, machine, Request::Update(limits))?,
        Question::Statistics => awake(agent, machine, Request::Statistics)?,
        Question::Freeze => freeze(agent, machine)?,
        Question::Thaw => {
            machine.resume();
            answered(agent.call(Request::Thaw { realtime: realtime() }))?
        }
        Question::Resize { process, size } => awake(agent, machine, Request::Resize { process, size })?,
        Question::Signal { process, signal, all } => {
            let request = Request::Signal { process, signal, all };
            if signal == nix::libc::SIGKILL {
                // Its processes die also where they are frozen, but not without a processor.
                machine.resume();
            }
            awake(agent, machine, request)?
        }
    };
    // A caller that has gone does not want its answer.
    let _ = protocol::write(&mut stream, &answer);
    Ok(())
}

/// The network is there when the first process begins: whoever made the namespace is done with it by now.
fn start(agent: &mut Agent, network: &mut Option<Network>, hooks: bool) -> Result<Answer, AgentError> {
    if let Some(network) = network
        && let Err(error) = network.update(agent)
    {
        return Ok(Answer::Failed(chain(&error)));
    }
    let begun = if hooks { agent.call_patiently(Request::Start) } else { agent.call(Request::Start) };
    let answer = answered(begun)?;
    if answer == Answer::Done
        && let Some(network) = network.take()
    {
        network::follow(network);
    }
    Ok(answer)
}

/// Asks the guest, whose processors run for the answer if they are paused.
fn awake(agent: &mut Agent, machine: &MachineHandle, request: Request) -> Result<Answer, AgentError> {
    let paused = machine.is_paused();
    if paused {
        machine.resume();
    }
    let answer = answered(agent.call(request))?;
    Ok(match paused.then(|| machine.pause()) {
        Some(Err(stuck)) => Answer::Failed(stuck.to_string()),
        _ => answer,
    })
}

/// The container's processes first, and with them what they wrote; then the processors.
fn freeze(agent: &mut Agent, machine: &MachineHandle) -> Result<Answer, AgentError> {
    let answer = answered(agent.call(Request::Freeze))?;
    if answer == Answer::Done
        && let Err(stuck) = machine.pause()
    {
        // Not half paused: the first error is the one to tell.
        let _ = answered(agent.call(Request::Thaw { realtime: realtime() }))?;
        return Ok(Answer::Failed(stuck.to_string()));
    }
    Ok(answer)
}

/// The host's clock, for the guest to follow.
fn realtime() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn answered(result: Result<Reply, AgentError>) -> Result<Answer, AgentError> {
    match result {
        Ok(Reply::Done) => Ok(Answer::Done),
        Ok(Reply::Processes(processes)) => Ok(Answer::Processes(processes)),
        Ok(Reply::Statistics(found)) => Ok(Answer::Statistics(found)),
        Ok(Reply::Created { .. }) => Err(AgentError::Unexpected),
        Err(AgentError::Failed(failure)) => Ok(Answer::Guest(failure)),
        Err(error) => Err(error),
    }
}
