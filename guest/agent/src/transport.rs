//! Where the host is: over vsock in a machine, over unix sockets of a directory when the agent is an ordinary process.
//!
//! Out: connections as [`File`]s. A connection is only taken from the host: a process of the container that reaches
//! the agent's ports (it can't in our kernel, which has no vsock loopback) is turned away by its CID.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use msb_agent::protocol::{CHANNEL_PORT, NAMES_PORT, STREAM_PORT, TIME_PORT};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, bind, connect,
    getpeername, listen, shutdown, socket,
};

use crate::sys;

/// Connections not yet accepted: as many as the host's device has. Two hundred commands at once bring eight hundred, and one that
/// finds no room is refused.
const BACKLOG: i32 = 1024;

/// How the host is reached.
#[derive(Debug)]
pub enum Endpoint {
    /// As a machine's agent.
    Vsock,
    /// For tests and development: `host` is connected to, `1024` and `1025` are made.
    Unix(PathBuf),
}

/// A socket on which the host may connect.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    vsock: bool,
}

impl Endpoint {
    /// Listens for later channels.
    pub fn channels(&self) -> Result<Listener, Errno> {
        self.listen(CHANNEL_PORT)
    }

    /// Listens for stdio streams.
    pub fn streams(&self) -> Result<Listener, Errno> {
        self.listen(STREAM_PORT)
    }

    /// The boot channel.
    pub fn connect(&self) -> Result<File, Errno> {
        let socket = match self {
            Self::Vsock => {
                connected(AddressFamily::Vsock, &VsockAddr::new(libc::VMADDR_CID_HOST, CHANNEL_PORT))?
            }
            Self::Unix(directory) => {
                connected(AddressFamily::Unix, &UnixAddr::new(&directory.join("host"))?)?
            }
        };
        Ok(File::from(socket))
    }

    fn listen(&self, port: u32) -> Result<Listener, Errno> {
        let (socket, vsock) = match self {
            Self::Vsock => (bound(AddressFamily::Vsock, &VsockAddr::new(libc::VMADDR_CID_ANY, port))?, true),
            Self::Unix(directory) => {
                (bound(AddressFamily::Unix, &UnixAddr::new(&directory.join(port.to_string()))?)?, false)
            }
        };
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(Listener { socket, vsock })
    }
}

impl Listener {
    /// The next connection of the host.
    pub fn accept(&self) -> Result<File, Errno> {
        loop {
            let connection = match sys::accept(self.socket.as_fd()) {
                Ok(connection) => connection,
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(errno) => return Err(errno),
            };
            if !self.vsock
                || getpeername::<VsockAddr>(connection.as_raw_fd())
                    .is_ok_and(|peer| peer.cid() == libc::VMADDR_CID_HOST)
            {
                return Ok(File::from(connection));
            }
        }
    }
}

/// To who answers questions about names.
pub fn names() -> Result<File, Errno> {
    service(NAMES_PORT)
}

/// To who tells the time.
pub fn time() -> Result<File, Errno> {
    service(TIME_PORT)
}

fn service(port: u32) -> Result<File, Errno> {
    connected(AddressFamily::Vsock, &VsockAddr::new(libc::VMADDR_CID_HOST, port)).map(File::from)
}

/// Tells the other side that nothing more will come; what was sent is still delivered.
pub fn finish(connection: &File) {
    // An error says that the other side is gone already.
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
}

/// Ends both directions, also for a thread that waits in a read.
pub fn hang_up(connection: &File) {
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Both);
}

fn fresh(family: AddressFamily) -> Result<OwnedFd, Errno> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

fn bound(family: AddressFamily, address: &impl SockaddrLike) -> Result<OwnedFd, Errno> {
    let socket = fresh(family)?;
    bind(socket.as_raw_fd(), address)?;
    Ok(socket)
}

fn connected(family: AddressFamily, address: &impl SockaddrLike) -> Result<OwnedFd, Errno> {
    let socket = fresh(family)?;
    connect(socket.as_raw_fd(), address)?;
    Ok(socket)
}
