//! The messages of a channel.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Addressing, Container, Failure, GuestLimits, Interface, MemoryStatistics, Process, ProcessInfo,
    Statistics, TerminalSize,
};

/// First on every channel, from the agent in [`FromAgent::Hello`], and from the host on every channel and stream before its
/// first message ([`super::write_first`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::VERSION`] of who says it.
    pub version: u32,
}

/// Host to agent. Answered by exactly one [`FromAgent::Reply`] with the same `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToAgent {
    /// Chosen by the host, unique on its channel.
    pub id: u32,
    /// What is asked.
    pub request: Request,
}

/// What the host may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make the container and its first process, up to but without the `execve`: the root is mounted, the
    /// command is looked up, and its stdio streams are awaited. Answered [`Reply::Created`]. Once on a channel; the
    /// sandbox's own channel makes the first container, whose end is the guest's.
    Create(Box<Container>),
    /// From now on this channel, which has made none, speaks of the container whose first process this is.
    Enter(ProcessId),
    /// Lets disks go that were put into the machine later. A container that is on them is killed first, and its end awaited.
    Detach {
        /// Platform devices: `virtio-mmio.12`.
        devices: Vec<String>,
    },
    /// Let the first process go. Answered [`Reply::Done`] once it has called `execve`.
    Start,
    /// Run one more process in the container. Answered [`Reply::Created`] when it exists and waits for its
    /// streams; it calls `execve` once [`Request::Release`] comes.
    Exec(Box<Process>),
    /// Let a process made by [`Request::Exec`] on this channel go.
    Release,
    /// Send a signal to one process, or with `all` to every process of the container; where it is not the container's first,
    /// to all that came of it.
    Signal {
        /// Which process.
        process: ProcessId,
        /// Signal number, 1 to 64.
        signal: i32,
        /// To more than that one.
        all: bool,
    },
    /// Give a process's terminal a size.
    Resize {
        /// Which process.
        process: ProcessId,
        /// The new size.
        size: TerminalSize,
    },
    /// The container's processes. Answered [`Reply::Processes`].
    Processes,
    /// Hold the container to other limits from now on. Answered [`Reply::Done`]; a limit that is refused leaves those
    /// before it changed.
    Update(Box<GuestLimits>),
    /// What the container uses. Answered [`Reply::Statistics`].
    Statistics,
    /// A file that came by its content ([`super::MountSource::File`]) has another one on the host now.
    Refresh {
        /// Its place in [`super::Container::mounts`].
        file: u32,
        /// Its bytes.
        content: Vec<u8>,
    },
    /// Everything written is brought to the disks. Asked before the machine is ended.
    Sync,
    /// Stops every process of the container where it is, and brings all that it wrote to the disks. Answered when
    /// both have happened: from then on nothing changes there.
    Freeze,
    /// Lets them go on, at the right time: the machine may have stood still since.
    Thaw {
        /// The host's `CLOCK_REALTIME`, since 1970.
        realtime: Duration,
    },
    /// Binds a network device that was plugged into the machine, and makes it an interface of the container.
    Plug(Box<Interface>),
    /// Gives a plugged interface other addresses and routes. What is taken away and is not there is no error.
    Readdress {
        /// [`Interface::device`].
        device: String,
        /// Taken away, first.
        remove: Addressing,
        /// Added.
        add: Addressing,
    },
    /// Serves [`super::NAME_SERVER`] to the container from now on. No error if it is served already.
    Names,
    /// Lets a network device go: the interface disappears. No error if it has already.
    Unplug {
        /// [`Interface::device`].
        device: String,
    },
}

impl Request {
    /// Whether this is an answer to it, of the kind and the size that an honest agent's has.
    #[must_use]
    pub fn takes(&self, reply: &Reply) -> bool {
        match (self, reply) {
            (Self::Create(_) | Self::Exec(_), Reply::Created { .. }) => true,
            (Self::Create(_) | Self::Exec(_), _) | (_, Reply::Created { .. }) => false,
            (Self::Processes, Reply::Processes(all)) => {
                let bytes = all.iter().flat_map(|one| &one.args).map(|word| word.len() + 1);
                all.len() <= ProcessInfo::MAX && bytes.sum::<usize>() <= ProcessInfo::MAX_ALL_ARGS
            }
            (Self::Processes, _) | (_, Reply::Processes(_)) => false,
            (Self::Statistics, Reply::Statistics(found)) => {
                let lines = found.memory.as_ref().map_or(0, |memory| memory.stat.len());
                lines <= MemoryStatistics::MAX_STAT
                    && found.io.len() <= Statistics::MAX_DEVICES
                    && found.huge_pages.len() <= Statistics::MAX_DEVICES
            }
            (Self::Statistics, _) | (_, Reply::Statistics(_)) => false,
            (_, Reply::Done) => true,
        }
    }
}

/// A process the host asked for. The first is [`ProcessId::INIT`], each further one gets the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The first process of the guest's first container.
    pub const INIT: Self = Self(0);
}

/// Agent to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// First on every channel.
    Hello(Hello),
    /// The answer to one request.
    Reply {
        /// The request's `id`.
        id: u32,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// Something happened to a process that was made on this channel.
    Event(Event),
}

/// A request's success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The process exists and awaits its streams.
    Created {
        /// Its name from now on.
        process: ProcessId,
        /// Its pid in the guest's first pid namespace, for people: [`super::ProcessInfo::pid`].
        pid: u32,
    },
    /// Nothing to add.
    Done,
    /// The container's processes, the first one first.
    Processes(Vec<ProcessInfo>),
    /// What the container uses.
    Statistics(Box<Statistics>),
}

/// What the agent tells unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A process ended; all that it wrote has been put into its streams and they were closed, and for the
    /// first process the file systems are synced. The last message about that process.
    Exited {
        /// Which one.
        process: ProcessId,
        /// How.
        status: ExitStatus,
    },
    /// Memory was short and the kernel killed processes of the container. Told on the sandbox's channel, at most once a
    /// second; what was killed before the first process's end is told before that end.
    OutOfMemory {
        /// How many were killed since the last such event; at least one.
        kills: u64,
        /// Those of them that the kernel named, at most [`Victim::MAX`].
        victims: Vec<Victim>,
    },
}

/// A process that the kernel killed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// In the guest's first pid namespace.
    pub pid: u32,
    /// At most 15 bytes, as the kernel keeps it; nothing to trust.
    pub name: String,
}

impl Victim {
    /// Most victims that one event names.
    pub const MAX: usize = 8;
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called `exit` with this status, 0 to 255.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

impl ExitStatus {
    /// As a shell and every container runtime tell it: the status, or 128 plus the signal's number.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// The first frame of a stream that is no channel, from host to agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamHello {
    /// A process's stdio.
    Stdio {
        /// Whose stream.
        process: ProcessId,
        /// Which one.
        stream: Stream,
    },
    /// A TCP port at the guest's localhost. The agent says [`CONNECTED`](super::CONNECTED) when somebody listens there, and
    /// then both ways are its bytes; else it closes the stream.
    Port(u16),
    /// A sender to a UDP port at the guest's localhost. The agent says [`CONNECTED`](super::CONNECTED), and then both ways are
    /// datagrams ([`write_datagram`](super::write_datagram)) until the host closes the stream.
    Datagrams(u16),
}

/// The streams of a process. With a terminal there is just [`Stream::Terminal`], both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Host to guest; the host's half-close is the process's end of file.
    Stdin,
    /// Guest to host.
    Stdout,
    /// Guest to host.
    Stderr,
    /// The terminal's other side, both ways.
    Terminal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_of_its_questions_kind_and_size() {
        let created = || Reply::Created { process: ProcessId(1), pid: 1 };
        let replies =
            [created(), Reply::Done, Reply::Processes(Vec::new()), Reply::Statistics(Box::default())];
        for (request, only) in
            [(Request::Start, 1), (Request::Freeze, 1), (Request::Processes, 2), (Request::Statistics, 3)]
        {
            let taken: Vec<usize> = (0..4).filter(|at| request.takes(&replies[*at])).collect();
            assert_eq!(taken, [only], "{request:?}");
        }
        let one = |args| ProcessInfo {
            pid: 1,
            parent: 0,
            uid: 0,
            state: 'S',
            name: String::new(),
            args,
            started: 0,
            cpu: 0,
            resident: 0,
        };
        let takes = |all| Request::Processes.takes(&Reply::Processes(all));
        assert!(
            takes(vec![one(vec![]); ProcessInfo::MAX]) && !takes(vec![one(vec![]); ProcessInfo::MAX + 1])
        );
        let empty = |count| vec![one(vec![String::new(); count])];
        assert!(takes(empty(ProcessInfo::MAX_ALL_ARGS)) && !takes(empty(ProcessInfo::MAX_ALL_ARGS + 1)));
        let io = vec![Default::default(); Statistics::MAX_DEVICES + 1];
        assert!(
            !Request::Statistics.takes(&Reply::Statistics(Box::new(Statistics { io, ..Default::default() })))
        );
    }
}
