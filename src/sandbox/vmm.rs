//! The VMM process, from its first line to the container's exit code. Read it top to bottom: it is the life of
//! a container.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd, BorrowedFd, RawFd},
    sync::mpsc,
    thread,
    time::Duration,
};

use msb_agent::protocol::{
    CHANNEL_PORT, Container, ExitStatus, Failure, FrameError, NAMES_PORT, ProcessId, Reply, Request,
};
use nix::{errno::Errno, unistd};

use super::{
    Log, SandboxConfig, chain,
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
    machine::{BuildError, Ended, Machine, MachineHandle, RunError, monotonic_ns},
    process::{
        agent::{Agent, AgentError},
        attach::DRAIN,
        session::{Session, SessionError, Signals, Turn},
        stdio::{self, Relays, StdioError},
        terminal::{self, TerminalError},
    },
};

/// How long a guest may boot. An emulated host with several guests needs most of it.
const BOOT: Duration = Duration::from_secs(120);

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
    /// The machine can't be built.
    #[error("The machine can't be built")]
    Build(#[from] BuildError),
    /// The machine's thread.
    #[error("The machine's thread can't be started")]
    Thread(#[source] io::Error),
    /// The machine ended by itself.
    #[error("{reason}{}", console(.tail))]
    MachineEnded {
        /// How.
        reason: &'static str,
        /// The last lines of its console.
        tail: String,
    },
    /// The machine failed.
    #[error("The machine failed")]
    Run(#[from] RunError),
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
    keep_exit(&config.dir, supervise(sandbox, session, &tell))
}

/// What lives as long as the container.
#[derive(Debug)]
struct Sandbox {
    machine: MachineHandle,
    ended: mpsc::Receiver<Result<Ended, RunError>>,
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
    let built = Machine::build(&machine);
    if let (Err(BuildError::Fs(_)), Some(lost)) = (&built, volumes.as_mut()) {
        // It listened before it was started: nobody listens any more.
        if let Some(error) = lost.ended() {
            return Err(error.into());
        }
    }
    let mut machine = built?;
    drop(images);
    let handle = machine.handle();
    let hello = machine.take_listener(CHANNEL_PORT);
    let questions = machine.take_listener(NAMES_PORT);
    let (tell, ended) = mpsc::channel();
    thread::Builder::new()
        .name("machine".into())
        .spawn(move || {
            // The receiver is gone only when this process is.
            let _ = tell.send(machine.run());
        })
        .map_err(VmmError::Thread)?;

    if let Some(volumes) = &mut volumes {
        // While the guest boots.
        volumes.connected()?;
    }
    let channel = hello.and_then(|listener| listener.recv_timeout(BOOT).ok());
    let made = match channel {
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
            let network = Some(Network::new(handle.clone(), config.reach, questions)?);
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
                ended,
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
            Err(lost.map_or_else(|| cause(error, &handle, &ended), VmmError::from))
        }
    }
}

/// The agent is there: let it make the container, and join its stdio.
fn prepare(
    channel: std::os::unix::net::UnixStream,
    machine: &MachineHandle,
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
        let others: Vec<BorrowedFd> =
            [sandbox.control.as_fd()].into_iter().chain(sandbox.usual.as_ref().map(AsFd::as_fd)).collect();
        match session.turn(&others) {
            Ok(Turn::Exited(status)) => break Ok(status),
            Ok(Turn::OutOfMemory(kills, victims)) => sandbox.oom.show(kills, &victims, tell),
            Ok(Turn::Other(1)) => {
                sandbox.usual.as_mut().map(Usual::notice);
            }
            Ok(Turn::Other(_)) => {
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
            Err(error) => break Err(error.into()),
        }
    };
    match watched {
        Ok(status) => {
            sandbox.relays.finish(DRAIN);
            Ok(status)
        }
        Err(error) => Err(cause(error, &sandbox.machine, &sandbox.ended)),
    }
}

/// When the guest is gone, the machine knows why; a lost channel is only how it was noticed.
fn cause(
    error: VmmError,
    machine: &MachineHandle,
    ended: &mpsc::Receiver<Result<Ended, RunError>>,
) -> VmmError {
    let closed = match &error {
        VmmError::Agent(error) | VmmError::Lost(SessionError::Agent(error)) => {
            error.is_closed() || matches!(error, AgentError::NoHello)
        }
        _ => false,
    };
    if !closed {
        return error;
    }
    let reason = match ended.recv_timeout(LAST_WORDS) {
        Ok(Ok(Ended::Stopped | Ended::ShutDown)) => "The guest shut itself down",
        Ok(Ok(Ended::TripleFault)) => "The guest's processor hit a triple fault",
        Ok(Ok(Ended::GuestPanic)) => "The guest's kernel panicked",
        Ok(Err(failure)) => return failure.into(),
        Err(_) => return error,
    };
    VmmError::MachineEnded { reason, tail: machine.console_tail() }
}
