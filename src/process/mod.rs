//! The agent, seen from the host: say hello, call it, relay stdio, wait for an end.
//!
//! Enters: something that opens vsock streams to the guest ([`Door`]) and the stdio of this process.
//! Leaves: typed replies and a process's exit status. It never knows how the machine is made, nor the OCI spec;
//! everything the agent says is hostile input, bounded in size and number.

pub mod agent;
pub mod attach;
pub mod session;
pub mod stdio;
pub mod terminal;
mod timely;

use std::{io, os::unix::net::UnixStream};

/// Opens a stream to a vsock port of the guest. Inside the VMM that is the machine itself, elsewhere its
/// control socket.
pub type Door<'a> = &'a dyn Fn(u32) -> io::Result<UnixStream>;
