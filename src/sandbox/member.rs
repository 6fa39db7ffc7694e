//! The process of a pod's further container, from its first line to the container's exit code: what the VMM is to the
//! pod's first one, without a machine.
//!
//! ```text
//!  create ── spawn ──▶ member process: enters the pod's network namespace ── Ready ──▶ create runs hooks
//!         ── Go ─────▶ asks the pod's VMM for disks and volumes, the agent for the container ── Member ──▶ create ends
//!  start, kill, ps ──▶ its own control.sock          exec ──▶ the VMM's
//!                      the container ends, or the machine ──▶ the process ends with its exit code
//! ```
//!
//! Its pid stands for the container towards every caller, its streams are the container's, and it sits in the container's
//! cgroup. With it, the container ends.

use std::{
    io::{self, IsTerminal as _},
    os::{
        fd::{AsFd, RawFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    time::Duration,
};

use msb_agent::protocol::{
    CHANNEL_PORT, Container, ExitStatus, FrameError, MountSource, Process, ProcessId, Reply, Request,
    RootSource,
};
use nix::{errno::Errno, unistd};
use serde::{Deserialize, Serialize};

use super::{
    Log, chain,
    child::{Parent, Word},
    control::{self, Admission, Admitted, Control, ControlError},
    images, keep_exit,
    oom::Showing,
    serve::{self, Served},
    volumes,
};
use crate::{
    config::{DiskConfig, PlacedBind, PlacedImage},
    host::{
        cgroup::Place,
        netns::{self, NetnsError},
    },
    process::{
        agent::{Agent, AgentError, PATIENCE},
        attach::{DRAIN, KILLED},
        session::{Session, SessionError, Signals, Turn},
        stdio::{self, Relays, StdioError},
        terminal::{self, TerminalError},
    },
};

/// All that the process is told, once, by the process that starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberConfig {
    /// The container's own directory: control socket.
    pub dir: PathBuf,
    /// The directory of the pod's first container.
    pub sandbox: PathBuf,
    /// The container's id.
    pub id: String,
    /// The container's cgroup on the host, if it has one.
    pub cgroup: Option<Place>,
    /// Where what concerns the container's caller is told while it runs.
    pub log: Option<Log>,
    /// The pod's network namespace.
    pub network: PathBuf,
    /// What the agent makes of it, but for its disks and its bind mounts.
    pub container: Container,
    /// The disks of its root, in order.
    pub disks: Vec<DiskConfig>,
    /// The bind mounts, in order.
    pub binds: Vec<PlacedBind>,
    /// The mounts of images, in order.
    pub images: Vec<PlacedImage>,
    /// How long output may still flow after the container's end; none: as long as anybody is there to read it.
    pub drain: Option<Duration>,
}

/// Why there is no container, or what has become of it.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The hidden verb was called by hand.
    #[error("This verb is for msb-runtime's own use")]
    Parent(#[source] FrameError),
    /// No session of its own.
    #[error("The container's process can't leave its caller's session")]
    Session(#[source] Errno),
    /// The container's terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The control socket.
    #[error("The container's control socket can't be made")]
    Control(#[source] io::Error),
    /// The pod's VMM.
    #[error("The pod's machine does not take the container in")]
    Pod(#[source] ControlError),
    /// A stream to the guest.
    #[error("No channel to the pod's agent")]
    Open(#[source] io::Error),
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

/// The exit code of a process whose parent tells what went wrong.
const UNTOLD: u8 = 1;

/// The hidden verb `member`: is the container until it ends, and returns its exit code. `warn` writes a line to the caller's
/// log.
///
/// # Errors
/// Only those that no parent can tell: before there is one, and after the container was made.
pub fn run(fd: RawFd, warn: &dyn Fn(&Log, &str)) -> Result<u8, MemberError> {
    let (mut parent, config) = Parent::take::<MemberConfig>(fd).map_err(MemberError::Parent)?;
    let member = match create(&config, &mut parent) {
        Ok(member) => member,
        Err(MemberError::Agent(AgentError::Failed(failure))) => {
            parent.say(&Word::Guest(failure));
            return Ok(UNTOLD);
        }
        Err(error) => {
            parent.say(&Word::Failed(chain(&error)));
            return Ok(UNTOLD);
        }
    };
    parent.say(&Word::Member(member.process));
    drop(parent);
    let tell = |text: &str| {
        if let Some(log) = &config.log {
            warn(log, text);
        }
    };
    keep_exit(&config.dir, supervise(member, config.drain, &tell))
}

/// What lives as long as the container.
#[derive(Debug)]
struct Member {
    process: ProcessId,
    session: Session,
    control: UnixListener,
    relays: Relays,
    oom: Showing,
}

fn create(config: &MemberConfig, parent: &mut Parent) -> Result<Member, MemberError> {
    // A session of its own: what the caller's terminal sends concerns the caller.
    unistd::setsid().map_err(MemberError::Session)?;
    let has_terminal = config.container.init.terminal.is_some();
    if has_terminal && io::stdin().is_terminal() {
        terminal::take_control(io::stdin().as_fd())?;
    }
    let _ = unistd::chdir("/");
    let signals = Signals::block()?;
    netns::join(&config.network)?;
    let control = control::listen(&config.dir).map_err(MemberError::Control)?;
    parent.say(&Word::Ready);
    parent.await_go().map_err(MemberError::Parent)?;

    let pod = Control::of(&config.sandbox);
    let admission = Admission {
        container: config.id.clone(),
        disks: config.disks.clone(),
        images: config.images.iter().map(|placed| placed.image.clone()).collect(),
        binds: config.binds.iter().map(|placed| placed.bind.clone()).collect(),
    };
    let admitted = pod.admit(admission).map_err(MemberError::Pod)?;
    let mut container = complete(config, &admitted);
    if has_terminal {
        container.init.terminal = terminal::size(io::stdin()).or(container.init.terminal);
    }
    let Process { stdin, .. } = container.init;
    let mut agent = Agent::greet(pod.open(CHANNEL_PORT).map_err(MemberError::Open)?, PATIENCE)?;
    let Reply::Created { process, .. } = agent.call(Request::Create(Box::new(container)))? else {
        return Err(AgentError::Unexpected.into());
    };
    let relays = Relays::join(&|port| pod.open(port), process, has_terminal, stdin, stdio::own()?)?;
    let session = Session::new(agent, process, Some(signals));
    let oom = Showing::new(config.cgroup.as_ref().and_then(|place| place.cgroup().ok()));
    Ok(Member { process, session, control, relays, oom })
}

/// The container with its disks' names and its mounts in their places.
fn complete(config: &MemberConfig, admitted: &Admitted) -> Container {
    let mut container = config.container.clone();
    if let RootSource::Disks { layers, scratch } = &mut container.root.source {
        let names = layers.iter_mut().map(|layer| &mut layer.device).chain([scratch]);
        names.zip(&admitted.disks).for_each(|(name, device)| name.clone_from(device));
    }
    let binds = config.binds.iter().zip(&admitted.volumes);
    let binds = binds.map(|(placed, &(number, directory))| {
        volumes::mount(placed, MountSource::Volume { number, directory })
    });
    let images = config.images.iter().zip(&admitted.images);
    let images = images.map(|(placed, device)| images::mount(placed, device.clone()));
    volumes::put_in_place(&mut container, binds.chain(images).collect());
    container
}

fn supervise(
    mut member: Member,
    drain: Option<Duration>,
    tell: &dyn Fn(&str),
) -> Result<ExitStatus, MemberError> {
    let watched = loop {
        match member.session.turn(&[member.control.as_fd()]) {
            Ok(Turn::Exited(status)) => break Ok(status),
            Ok(Turn::OutOfMemory(kills, victims)) => member.oom.show(kills, &victims, tell),
            Ok(Turn::Other(_)) => {
                let mut served = Served {
                    first: member.process,
                    agent: &mut member.session.agent,
                    machine: None,
                    network: &mut None,
                    members: None,
                };
                if let Err(error) = serve::one(&member.control, &mut served) {
                    break Err(error.into());
                }
            }
            Err(error) => break Err(error),
        }
    };
    let status = match watched {
        // The pod's machine is gone, and the container as if it had been killed.
        Err(SessionError::Agent(error)) if error.is_closed() => KILLED,
        watched => watched?,
    };
    if !member.relays.finish(Some(DRAIN)) && drain.is_none() {
        // As of the machine's own process.
        drop(member.control);
        member.relays.finish(None);
    }
    Ok(status)
}
