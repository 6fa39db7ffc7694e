//! The sandbox's process, from its first line to the container's exit code. Read it top to bottom: it is the life of
//! a container. The machine itself is its child ([`super::cell`]).

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd, BorrowedFd, RawFd},
    sync::mpsc::{self, SyncSender},
    time::{Duration, Instant},
};

use msb_agent::protocol::{
    CHANNEL_PORT, Container, ExitStatus, Failure, FrameError, NAMES_PORT, ProcessId, Reply, Request,
    TIME_PORT,
};
use nix::{errno::Errno, unistd};

use super::{
    Log, SandboxConfig,
    cell::{Cell, CellError, Farewell, Handle, News},
    chain,
    child::{Moments, Parent, Word},
    control, forward, keep_exit,
    members::Members,
    network::{Network, NetworkError},
    oom::Showing,
    serve::{self, Served},
    usual::Usual,
    volumes::{self, Prepared, Volumes, VolumesError},
};
use crate::{
    config::MachineConfig,
    host::netns::{self, NetnsError},
    machine::{Ended, monotonic_ns},
    process::{
        agent::{Agent, AgentError},
        attach::{DRAIN, KILLED},
        session::{Session, SessionError, Signals, Turn},
        stdio::{self, Relays, StdioError},
        terminal::{self, TerminalError},
    },
};

/// How long a guest may boot. An emulated host with several guests needs most of it.
const BOOT: Duration = Duration::from_secs(120);

/// Questions about names that nobody has taken yet; the next is not answered.
const QUESTIONS: usize = 64;

/// How long the machine may take to say why it ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a sandbox failed; towards the caller these are the causes of a failed create, or the last words of a
/// container that was lost.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The hidden verb was called by hand.
    #[error("This verb is for msb-runtime's own use")]
    Parent(#[source] FrameError),
    /// No session of its own.
    #[error("The sandbox can't leave its caller's session")]
    Session(#[source] Errno),
    /// The container's terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The network's interfaces.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The control socket.
    #[error("The sandbox's control socket can't be made")]
    Control(#[source] io::Error),
    /// The bind mounts.
    #[error(transparent)]
    Volumes(#[from] VolumesError),
    /// No machine.
    #[error(transparent)]
    Cell(#[from] CellError),
    /// The machine ended by itself.
    #[error("{reason}{}", console(.tail))]
    MachineEnded {
        /// How.
        reason: &'static str,
        /// The last lines of its console.
        tail: String,
    },
    /// The machine failed.
    #[error("The machine failed: {reason}")]
    Run {
        /// In its words.
        reason: String,
    },
    /// The machine's process was killed from outside.
    #[error("The VMM was killed")]
    Killed,
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Stdio.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The container was lost while it ran.
    #[error(transparent)]
    Lost(#[from] SessionError),
}

fn console(tail: &str) -> String {
    if tail.trim().is_empty() {
        String::new()
    } else {
        format!("; the guest's console ends with:\n{}", tail.trim_end())
    }
}

/// The exit code of a VMM whose parent tells what went wrong.
const UNTOLD: u8 = 1;

/// The hidden verb `vmm`: is the sandbox until the container ends, and returns its exit code. `warn` writes a line to the
/// caller's log.
///
/// # Errors
/// Only those that no parent can tell: before there is one, and after the container was made.
pub fn run(fd: RawFd, warn: &dyn Fn(&Log, &str)) -> Result<u8, VmmError> {
    let (mut parent, config) = Parent::take::<SandboxConfig>(fd).map_err(VmmError::Parent)?;
    let (sandbox, session, moments) = match create(&config, &mut parent) {
        Ok(created) => created,
        Err(VmmError::Agent(AgentError::Failed(failure))) => {
            parent.say(&Word::Guest(failure));
            return Ok(UNTOLD);
        }
        Err(error) => {
            parent.say(&Word::Failed(chain(&error)));
            return Ok(UNTOLD);
        }
    };
    parent.say(&Word::Created(moments));
    drop(parent);
    let tell = |text: &str| {
        if let Some(log) = &config.log {
            warn(log, text);
        }
    };
    keep_exit(&config.dir, supervise(sandbox, session, config.drain, &tell))
}

/// What lives as long as the container.
#[derive(Debug)]
struct Sandbox {
    machine: Handle,
    cell: Cell,
    /// Where the guest's questions about names go.
    questions: SyncSender<std::os::unix::net::UnixStream>,
    control: std::os::unix::net::UnixListener,
    network: Option<Network>,
    relays: Relays,
    oom: Showing,
    usual: Option<Usual>,
    /// The further containers of a pod.
    members: Option<Members>,
    /// Ends with the container.
    _volumes: Option<Volumes>,
}

fn create(config: &SandboxConfig, parent: &mut Parent) -> Result<(Sandbox, Session, Moments), VmmError> {
    // A session of its own: what the caller's terminal sends concerns the caller.
    unistd::setsid().map_err(VmmError::Session)?;
    let has_terminal = config.container.init.terminal.is_some();
    // A caller that has streams instead of a terminal tells its size by way of the control socket.
    if has_terminal && io::stdin().is_terminal() {
        terminal::take_control(io::stdin().as_fd())?;
    }
    let _ = unistd::chdir("/");
    let signals = Signals::block()?;
    netns::enter(&config.network)?;
    let control = control::listen(&config.dir).map_err(VmmError::Control)?;
    parent.say(&Word::Ready);
    parent.await_go().map_err(VmmError::Parent)?;

    let Prepared { container, images, mut volumes, usual } = volumes::prepare(config)?;
    let file_system = volumes.as_ref().map(Volumes::config);
    let shared_memory = config.machine.shared_memory || file_system.is_some();
    let disks = [config.machine.disks.as_slice(), images.disks.as_slice()].concat();
    let machine = MachineConfig { file_system, shared_memory, disks, ..config.machine.clone() };
    let built = Cell::enter(&machine, config.confinement);
    if let (Err(CellError::Build { file_system: true, .. }), Some(lost)) = (&built, volumes.as_mut()) {
        // It listened before it was started: nobody listens any more.
        if let Some(error) = lost.ended() {
            return Err(error.into());
        }
    }
    let mut cell = built?;
    drop(images);
    let handle = cell.handle().clone();
    let (questions, asked) = mpsc::sync_channel(QUESTIONS);

    if let Some(volumes) = &mut volumes {
        // While the guest boots.
        volumes.connected()?;
    }
    let made = match hello(&mut cell) {
        Some(channel) => prepare(channel, &handle, container, signals),
        None => Err(AgentError::NoHello.into()),
    };
    let made = made.and_then(|made| {
        volumes.as_ref().map_or(Ok(()), Volumes::seal)?;
        Ok(made)
    });
    match made {
        Ok((session, relays, agent_hello_ns)) => {
            let moments = Moments {
                spawned_ns: 0,
                guest_entered_ns: handle.entered_ns(),
                agent_hello_ns,
                container_created_ns: monotonic_ns(),
            };
            // The container's place may be wrong in ways that its create finds out first.
            let oom = Showing::new(config.cgroup.as_ref().and_then(|place| place.cgroup().ok()));
            let network = Some(Network::new(handle.clone(), config.reach, Some(asked))?);
            if config.pod
                && let Err(error) = forward::serve(handle.clone())
            {
                // A pod is of use without.
                handle.note(&chain(&error));
            }
            let (members, volumes) =
                if config.pod { (volumes.map(Members::new), None) } else { (None, volumes) };
            let sandbox = Sandbox {
                machine: handle,
                cell,
                questions,
                control,
                network,
                relays,
                oom,
                usual,
                members,
                _volumes: volumes,
            };
            Ok((sandbox, session, moments))
        }
        Err(error) => {
            // Without its back end the guest can't mount, and does not know why.
            let about_command =
                matches!(&error, VmmError::Agent(AgentError::Failed(Failure::Command { .. })));
            let lost = volumes.as_mut().filter(|_| !about_command).and_then(Volumes::broken);
            Err(lost.map_or_else(|| cause(error, &mut cell), VmmError::from))
        }
    }
}

/// The agent's channel, which the guest opens once it is up.
fn hello(cell: &mut Cell) -> Option<std::os::unix::net::UnixStream> {
    let deadline = Instant::now() + BOOT;
    loop {
        match cell.news(deadline.saturating_duration_since(Instant::now()))? {
            News::Stream(CHANNEL_PORT, stream) => return Some(stream),
            // However many there are.
            News::Stream(..) if Instant::now() < deadline => {}
            News::Stream(..) | News::Ended(_) => return None,
        }
    }
}

/// The agent is there: let it make the container, and join its stdio.
fn prepare(
    channel: std::os::unix::net::UnixStream,
    machine: &Handle,
    mut container: Container,
    signals: Signals,
) -> Result<(Session, Relays, u64), VmmError> {
    let mut agent = Agent::greet(channel, BOOT)?;
    let agent_hello_ns = monotonic_ns();
    let (has_terminal, stdin) = (container.init.terminal.is_some(), container.init.stdin);
    if has_terminal {
        container.init.terminal = terminal::size(io::stdin()).or(container.init.terminal);
    }
    let Reply::Created { process: ProcessId::INIT, .. } = agent.call(Request::Create(Box::new(container)))?
    else {
        return Err(AgentError::Unexpected.into());
    };
    let door = |port| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        machine.connect(port, theirs).map_err(io::Error::other)?;
        Ok(ours)
    };
    let relays = Relays::join(&door, ProcessId::INIT, has_terminal, stdin, stdio::own()?)?;
    Ok((Session::new(agent, ProcessId::INIT, Some(signals)), relays, agent_hello_ns))
}

fn supervise(
    mut sandbox: Sandbox,
    mut session: Session,
    drain: Option<Duration>,
    tell: &dyn Fn(&str),
) -> Result<ExitStatus, VmmError> {
    let watched = loop {
        let paused = sandbox.machine.is_paused();
        session.hold_signals(paused);
        if let (Some(usual), false) = (&mut sandbox.usual, paused)
            && let Err(error) = usual.hand_over(&mut session.agent)
        {
            break Err(error.into());
        }
        let others = [
            Some((Asks::Control, sandbox.control.as_fd())),
            sandbox.cell.readable().map(|fd| (Asks::Machine, fd)),
            sandbox.usual.as_ref().map(|usual| (Asks::Usual, usual.as_fd())),
        ];
        let (asks, others): (Vec<Asks>, Vec<BorrowedFd>) = others.into_iter().flatten().unzip();
        let turn = session.turn(&others);
        let asks = match turn {
            Ok(Turn::Exited(status)) => break Ok(status),
            Ok(Turn::OutOfMemory(kills, victims)) => {
                sandbox.oom.show(kills, &victims, tell);
                continue;
            }
            Ok(Turn::Other(which)) => asks.get(which).copied(),
            Err(error) => break Err(error.into()),
        };
        match asks {
            Some(Asks::Usual) => {
                sandbox.usual.as_mut().map(Usual::notice);
            }
            Some(Asks::Machine) => {
                // That it has ended is seen at the agent's channel, behind what the agent still said.
                match sandbox.cell.news(Duration::ZERO) {
                    Some(News::Stream(NAMES_PORT, stream)) => drop(sandbox.questions.try_send(stream)),
                    Some(News::Stream(TIME_PORT, stream)) => serve::tell_time(stream),
                    Some(News::Stream(..) | News::Ended(_)) | None => {}
                }
            }
            Some(Asks::Control) => {
                if let Err(error) = {
                    let Sandbox { control, machine, network, members, .. } = &mut sandbox;
                    let mut served = Served {
                        first: ProcessId::INIT,
                        agent: &mut session.agent,
                        machine: Some(machine),
                        network,
                        members: members.as_mut(),
                    };
                    serve::one(control, &mut served)
                } {
                    break Err(error.into());
                }
            }
            None => {}
        }
    };
    match watched {
        Ok(status) => {
            if !sandbox.relays.finish(Some(DRAIN)) && drain.is_none() {
                // Who asks from now on learns at once that it has ended, however long its output is read.
                drop(sandbox.control);
                sandbox.relays.finish(None);
            }
            Ok(status)
        }
        Err(error) => match cause(error, &mut sandbox.cell) {
            // As if the container had been: what has the most memory is what the host kills for want of it.
            VmmError::Killed => Ok(KILLED),
            error => Err(error),
        },
    }
}

/// Who may want something of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Control,
    Machine,
    Usual,
}

/// When the guest is gone, the machine knows why; a lost channel is only how it was noticed.
fn cause(error: VmmError, cell: &mut Cell) -> VmmError {
    let closed = match &error {
        VmmError::Agent(error) | VmmError::Lost(SessionError::Agent(error)) => {
            error.is_closed() || matches!(error, AgentError::NoHello)
        }
        _ => false,
    };
    if !closed {
        return error;
    }
    let deadline = Instant::now() + LAST_WORDS;
    let farewell = loop {
        match cell.news(deadline.saturating_duration_since(Instant::now())) {
            Some(News::Ended(farewell)) => break farewell,
            Some(News::Stream(..)) if Instant::now() < deadline => {}
            Some(News::Stream(..)) | None => return error,
        }
    };
    let (reason, tail) = match farewell {
        Farewell::Machine(Ended::Stopped | Ended::ShutDown, tail) => ("The guest shut itself down", tail),
        Farewell::Machine(Ended::TripleFault, tail) => ("The guest's processor hit a triple fault", tail),
        Farewell::Machine(Ended::GuestPanic, tail) => ("The guest's kernel panicked", tail),
        Farewell::Failed(reason) | Farewell::Lost(reason) => return VmmError::Run { reason },
        Farewell::Killed => return VmmError::Killed,
    };
    VmmError::MachineEnded { reason, tail }
}
