//! The VMM's side of the control socket, and a pod's member's: one question of one caller at a time.
//!
//! A container that is paused stands still twice: its processes are frozen by the guest's kernel, so that nothing is half
//! done, and then the machine's processors, so that nothing runs. What is asked of the guest meanwhile wakes only the
//! processors, and only for the answer. In a pod the processors go on: its other containers have them as well.

use std::{
    io::{self, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msb_agent::protocol::{
    self, CHANNEL_PORT, FrameError, Hello, ProcessId, Reply, Request, STREAM_PORT, VERSION,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    cell::Handle,
    chain,
    control::{Answer, Question},
    members::Members,
    network::{self, Network},
};
use crate::process::agent::{Agent, AgentError};

/// A caller that connects and says nothing must not keep the sandbox from its work.
const SAY_SOMETHING: Duration = Duration::from_secs(5);

/// Until a caller who could not be taken is tried again.
const SHORT_OF: Duration = Duration::from_millis(50);

/// What the answers are about.
pub(super) struct Served<'a> {
    /// The container's first process, as the agent calls it.
    pub first: ProcessId,
    /// To the agent, of that container.
    pub agent: &'a mut Agent,
    /// The machine; none, where another process has it.
    pub machine: Option<&'a Handle>,
    /// Its network, until it begins.
    pub network: &'a mut Option<Network>,
    /// The further containers, in the machine of a pod.
    pub members: Option<&'a mut Members>,
}

/// Answers the caller that waits at `listener`.
///
/// # Errors
/// Only the agent's loss; what is wrong with one caller concerns that caller alone.
pub(super) fn one(listener: &UnixListener, served: &mut Served<'_>) -> Result<(), AgentError> {
    let Ok((mut stream, _)) = listener.accept() else {
        // For want of descriptors: it waits there still, and this is called again at once.
        thread::sleep(SHORT_OF);
        return Ok(());
    };
    let timeout = Some(SAY_SOMETHING);
    let prepared: io::Result<()> =
        stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
    let question = match (prepared, protocol::read_first(&mut stream)) {
        (Ok(()), Ok(question)) => question,
        (Ok(()), Err(FrameError::Version { .. })) => {
            // So that it can tell.
            let _ = protocol::write(&mut stream, &Hello { version: VERSION });
            return Ok(());
        }
        _ => return Ok(()),
    };
    let answer = match question {
        Question::Open { port: port @ (CHANNEL_PORT | STREAM_PORT) } if served.machine.is_some() => {
            if protocol::write_first(&mut stream, &Answer::Done).is_ok()
                && stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None)).is_ok()
            {
                // A machine that can't take it has ended: closing the stream says so.
                let _ = served.machine.map(|machine| machine.connect(port, stream));
            }
            return Ok(());
        }
        Question::Open { port } => Answer::Failed(format!("Port {port} of the guest is not open to callers")),
        Question::Start { hooks } => start(served, hooks)?,
        Question::Processes => awake(served, Request::Processes)?,
        Question::Update(limits) => awake(served, Request::Update(limits))?,
        Question::Statistics => awake(served, Request::Statistics)?,
        Question::Freeze => freeze(served)?,
        Question::Thaw => {
            if let Some(machine) = served.machine {
                machine.resume();
            }
            answered(served.agent.call(Request::Thaw { realtime: realtime() }))?
        }
        Question::Resize { process, size } => {
            let process = served.named(process);
            awake(served, Request::Resize { process, size })?
        }
        Question::Signal { process, signal, all } => {
            let process = served.named(process);
            let request = Request::Signal { process, signal, all };
            if let (nix::libc::SIGKILL, Some(machine)) = (signal, served.machine) {
                // Its processes die also where they are frozen, but not without a processor.
                machine.resume();
            }
            let answer = awake(served, request)?;
            if (signal, process, &answer) == (nix::libc::SIGKILL, served.first, &Answer::Done) {
                see_to_its_end();
            }
            answer
        }
        Question::Admit(admission) => match (&mut served.members, served.machine) {
            (Some(members), Some(machine)) => match members.admit(machine, &admission) {
                Ok(admitted) => Answer::Admitted(admitted),
                Err(error) => Answer::Failed(chain(&error)),
            },
            _ => Answer::Failed(NO_POD.into()),
        },
        Question::Dismiss { container } => match (&mut served.members, served.machine) {
            (Some(members), Some(machine)) => {
                let devices = members.devices(&container);
                match served.agent.call(Request::Detach { devices }) {
                    Ok(_) | Err(AgentError::Failed(_)) => {}
                    Err(error) => return Err(error),
                }
                // Whatever the guest says: it has them no more.
                members.dismiss(machine, &container);
                Answer::Done
            }
            _ => Answer::Failed(NO_POD.into()),
        },
    };
    // A caller that has gone does not want its answer.
    let _ = protocol::write_first(&mut stream, &answer);
    Ok(())
}

/// How long a guest may take from a SIGKILL for the container to its end: what was written comes to the disk before.
const END: Duration = Duration::from_secs(60);

/// A guest that says that it kills its container, and does not, is no more obeyed: this process ends as if it had been killed
/// itself, and with it the machine, or in a pod what stands for the container.
fn see_to_its_end() {
    let end = || {
        thread::sleep(END);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    };
    // Where there is no room for a thread the caller asks again.
    let _ = thread::Builder::new().name("end".into()).stack_size(STACK).spawn(end);
}

/// Of a thread that only sleeps.
const STACK: usize = 64 << 10;

/// Asked of who has no room for more containers.
const NO_POD: &str = "This container's machine is no pod's: it takes no further containers";

impl Served<'_> {
    /// Who asks calls the container's first process so.
    fn named(&self, process: ProcessId) -> ProcessId {
        if process == ProcessId::INIT { self.first } else { process }
    }
}

/// The network is there when the first process begins: whoever made the namespace is done with it by now.
fn start(served: &mut Served<'_>, hooks: bool) -> Result<Answer, AgentError> {
    if let Some(network) = served.network
        && let Err(error) = network.update(served.agent)
    {
        return Ok(Answer::Failed(chain(&error)));
    }
    let begun =
        if hooks { served.agent.call_patiently(Request::Start) } else { served.agent.call(Request::Start) };
    let answer = answered(begun)?;
    if answer == Answer::Done
        && let Some(network) = served.network.take()
    {
        network::follow(network);
    }
    Ok(answer)
}

/// Asks the guest, whose processors run for the answer if they are paused.
fn awake(served: &mut Served<'_>, request: Request) -> Result<Answer, AgentError> {
    let paused = served.machine.filter(|machine| machine.is_paused());
    if let Some(machine) = paused {
        machine.resume();
    }
    let answer = answered(served.agent.call(request))?;
    Ok(match paused.map(Handle::pause) {
        Some(Err(stuck)) => Answer::Failed(chain(&stuck)),
        _ => answer,
    })
}

/// The container's processes first, and with them what they wrote; then the processors, unless others need them. One that
/// stands still already, for somebody who was killed, does so once more.
fn freeze(served: &mut Served<'_>) -> Result<Answer, AgentError> {
    if let Some(machine) = served.machine.filter(|machine| machine.is_paused()) {
        machine.resume();
    }
    let answer = answered(served.agent.call(Request::Freeze))?;
    if answer == Answer::Done
        && served.members.is_none()
        && let Some(Err(stuck)) = served.machine.map(Handle::pause)
    {
        // Not half paused: the first error is the one to tell.
        let _ = answered(served.agent.call(Request::Thaw { realtime: realtime() }))?;
        return Ok(Answer::Failed(chain(&stuck)));
    }
    Ok(answer)
}

/// The host's clock, for the guest to follow.
fn realtime() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// To a guest whose hypervisor can't say what the host's clock says.
pub(super) fn tell_time(mut stream: UnixStream) {
    let since = u64::try_from(realtime().as_nanos()).unwrap_or(u64::MAX);
    // There is room for eight bytes in a stream that is new; without, this guest's clock is this guest's trouble.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&since.to_le_bytes()));
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
