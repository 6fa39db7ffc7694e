//! One more process in a container: made, joined with its caller's stdio, waited for.
//!
//! This is the whole life of the hidden `attach` process, whose pid stands for the guest's process towards
//! Docker, and of a foreground `exec`. The shim has threads for it, and no process.

use std::{io, time::Duration};

use msb_agent::protocol::{CHANNEL_PORT, ExitStatus, Process, ProcessId, Reply, Request};

use super::{
    Door,
    agent::{Agent, AgentError, PATIENCE},
    session::{Session, SessionError, Signals, Turn},
    stdio::{Descriptors, Relays, StdioError},
    terminal,
};

/// How long output may still flow after the process's end before its reader is given up, where others wait for that end. Who is
/// joined with a reader of its own, as a command in a pipe is, waits for it.
pub const DRAIN: Duration = Duration::from_secs(30);

/// How a process has ended whose guest is gone: as if it had been killed.
pub const KILLED: ExitStatus = ExitStatus::Signal(9);

/// Why the process could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The sandbox can't be reached.
    #[error("No channel to the container's agent")]
    Open(#[source] io::Error),
    /// The agent says no, or is gone.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Its stdio.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// Its signals and its end.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A process that exists and waits to be released.
#[derive(Debug)]
pub struct Attached {
    session: Session,
    relays: Relays,
    process: ProcessId,
    pid: u32,
}

/// Makes `process` in the container behind `door` whose first process is `container`. With a terminal, descriptor 0 of this
/// process gives the size if it is one. What this process gets of `signals` is the other's.
///
/// # Errors
/// [`AttachError::Agent`] with the agent's own failure for a command that can't be run.
pub fn create(
    door: Door,
    container: ProcessId,
    mut process: Process,
    descriptors: Descriptors,
    signals: Option<Signals>,
) -> Result<Attached, AttachError> {
    let (is_terminal, stdin) = (process.terminal.is_some(), process.stdin);
    if is_terminal {
        process.terminal = terminal::size(io::stdin()).or(process.terminal);
    }
    let channel = door(CHANNEL_PORT).map_err(AttachError::Open)?;
    let mut agent = Agent::greet(channel, PATIENCE)?;
    if container != ProcessId::INIT {
        agent.order(Request::Enter(container))?;
    }
    let Reply::Created { process: id, pid } = agent.call(Request::Exec(Box::new(process)))? else {
        return Err(AgentError::Unexpected.into());
    };
    let relays = Relays::join(door, id, is_terminal, stdin, descriptors)?;
    let mut session = Session::new(agent, id, signals);
    if is_terminal {
        session.resize()?;
    }
    Ok(Attached { session, relays, process: id, pid })
}

impl Attached {
    /// What the guest calls it.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// Its pid in the guest's first pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the process go.
    ///
    /// # Errors
    /// [`AttachError::Agent`], also when the kernel refuses the file's format.
    pub fn release(&mut self) -> Result<(), AttachError> {
        Ok(self.session.agent.order(Request::Release)?)
    }

    /// Forwards signals until the process has ended and its output is written, for which its reader has so long; none: any
    /// time.
    ///
    /// # Errors
    /// [`AttachError::Session`]; the guest being gone is told as SIGKILL, which is what ended the process.
    pub fn wait(mut self, drain: Option<Duration>) -> Result<ExitStatus, AttachError> {
        // The container may be paused at any time, and signals wait then.
        self.session.agent.be_patient();
        let status = match self.session.turn(&[]) {
            Ok(Turn::Exited(status)) => status,
            // Told on the sandbox's channel alone.
            Ok(Turn::Other(_) | Turn::OutOfMemory(..)) => return Err(AgentError::Unexpected.into()),
            Err(SessionError::Agent(error)) if error.is_closed() => KILLED,
            Err(error) => return Err(error.into()),
        };
        self.relays.finish(drain);
        Ok(status)
    }
}
