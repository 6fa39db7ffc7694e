//! What host and agent say to each other, and in what bytes.
//!
//! Enters and leaves: frames on a *channel* (a vsock stream): a `u32` length, little endian, at most
//! [`MAX_FRAME`], then one message in postcard's encoding. Stdio is never a message: each descriptor is a
//! vsock stream of its own, opened with a [`StreamHello`] frame and raw bytes after it.
//!
//! ```text
//!  boot      agent ── connects ──▶ host port 1024      the sandbox's channel; agent says Hello first
//!  later     host  ── connects ──▶ guest port 1024     one more channel (an exec, a container of a pod); agent says Hello first
//!  stdio     host  ── connects ──▶ guest port 1025     StreamHello, then raw bytes
//!  a port    host  ── connects ──▶ guest port 1025     StreamHello, then CONNECTED from the agent, then raw bytes, or
//!                                                      datagrams, each behind its length
//!  names     agent ── connects ──▶ host port 1026      one question about a name, and its answer
//!  the time  agent ── connects ──▶ host port 1027      the host says it, and closes the stream
//! ```
//!
//! A channel speaks of one container: the one that was made on it, else the one that was entered, else the guest's first.
//!
//! The two sides are shipped together, so there is one [`VERSION`] and no negotiation: a different one is refused. On a
//! channel the agent begins with [`FromAgent::Hello`], and the host with its [`Hello`] before the first message; on a stream the
//! host does before the [`StreamHello`].
//! Neither side trusts the other: the host because the guest is hostile, the agent because a bug is one.

mod container;
mod datagram;
mod devices;
mod failure;
mod frame;
mod hooks;
mod limits;
mod message;
pub mod names;
mod namespaces;
mod network;
mod statistics;

pub use container::{
    Capabilities, Container, Instruction, Layer, MOUNT_OPTIONS, Mount, MountSource, Process, Rlimit, Root,
    RootSource, Scheduler, Seccomp, Sysctl, TerminalSize, User,
};
pub use datagram::{MAX_DATAGRAM, read_datagram, write_datagram};
pub use devices::{Device, DeviceAccess, DeviceKind, DeviceRule, allow_all};
pub use failure::{CommandProblem, Failure};
pub use frame::{
    FrameError, MAX_FRAME, MAX_FROM_AGENT, decode, encode, read, read_first, read_within, write, write_first,
};
pub use hooks::{StartHook, StartHooks};
pub use limits::{Amount, GuestLimits, HugePages};
pub use message::{
    Event, ExitStatus, FromAgent, Hello, ProcessId, Reply, Request, Stream, StreamHello, ToAgent, Victim,
};
pub use namespaces::{Clock, IdRange, Joined, Namespace, Personality, TimeOffset, UserMap};
pub use network::{Address, Addressing, Interface, NAME_SERVER, NameQuestion, Neighbour, Route};
pub use statistics::{
    CpuStatistics, HugePagesStatistics, IoStatistics, MemoryEvents, MemoryStatistics, PidsStatistics,
    Pressure, PressureShares, ProcessInfo, Statistics,
};

/// Version of everything in this module, and of what the host's own programs say to each other about it; raised by each change
/// of a message.
pub const VERSION: u32 = 3;

/// The virtiofs tag under which the host shares the container's volumes, each at a number of its own.
pub const VOLUMES_TAG: &str = "volumes";

/// vsock port of channels, on both sides.
pub const CHANNEL_PORT: u32 = 1024;

/// vsock port of the host that answers questions about names: a [`NameQuestion`] byte, then the question, and the answer
/// back, each behind its length in two bytes, most significant first.
pub const NAMES_PORT: u32 = 1026;

/// vsock port of the host that tells its `CLOCK_REALTIME`: nanoseconds since 1970 as a `u64`, little endian. For guests whose
/// hypervisor can't say it.
pub const TIME_PORT: u32 = 1027;

/// vsock port on which the agent accepts streams: of stdio, and to ports of the guest.
pub const STREAM_PORT: u32 = 1025;

/// The agent's only byte of its own on a stream to a port: somebody listens there.
pub const CONNECTED: u8 = 1;

/// The command of a container's first process that only waits for its end and takes on what others leave: the agent's own
/// program, which is there whatever the container's root holds.
pub const IDLE: [&str; 2] = ["/proc/self/exe", "--idle"];
