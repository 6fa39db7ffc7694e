//! Ports of the host that lead into the sandbox: each connection is offered to the guest's agent, which dials inside, and what is
//! sent by UDP goes the same way ([`super::datagrams`]).
//!
//! So a sandbox without any network can have them as well, the host needs no rule of any firewall, and a program that listens
//! on the sandbox's 127.0.0.1 alone is reached, too. The sandbox is not trusted: it can only answer.

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use msb_agent::protocol::STREAM_PORT;
use msb_runtime::sandbox::{control::Control, forward};

use super::{datagrams::Datagrams, spawn};
use crate::sandbox::{InUse, Place, Port, Protocol};

/// Connections of one sandbox at the same time; further ones are broken off.
const CONNECTIONS: usize = 1024;
/// After an accept that fails, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Environment variable with the address of who gives none: in a container of its own `msb` has a loopback that nobody else
/// reaches.
const ADDRESS: &str = "MICROSANDBOX_PUBLISH";

/// Why a port can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// It is taken, or not ours to take.
    #[error("The port {address} of the host can't be had: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Of who gives none.
    #[error("{ADDRESS} is {0:?}, which is no address: give one such as 127.0.0.1")]
    Address(String),
}

/// The address of who gives none.
pub(super) fn usual() -> Result<IpAddr, PortError> {
    match env::var(ADDRESS) {
        Ok(text) if !text.is_empty() => text.parse().map_err(|_| PortError::Address(text)),
        _ => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

/// Ports that nobody else can take any more.
#[derive(Debug)]
pub(super) struct Listeners(Vec<(Taken, u16)>);

/// One of the host's.
#[derive(Debug)]
enum Taken {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Taken {
    fn take(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        Ok(match protocol {
            Protocol::Tcp => Self::Tcp(TcpListener::bind(address)?),
            Protocol::Udp => Self::Udp(UdpSocket::bind(address)?),
        })
    }

    fn port(&self) -> io::Result<u16> {
        let address = match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        };
        address.map(|address| address.port())
    }
}

impl Listeners {
    /// Takes them; those that were left open become those that were free.
    pub(super) fn bind(ports: &mut [Port], usual: IpAddr) -> Result<Self, PortError> {
        let mut all = Vec::new();
        for port in ports {
            let address = SocketAddr::new(port.address.unwrap_or(usual), port.host);
            let failed = |source| PortError::Bind { address, source };
            let taken = Taken::take(port.protocol, address).map_err(failed)?;
            port.host = taken.port().map_err(failed)?;
            all.push((taken, port.guest));
        }
        Ok(Self(all))
    }

    /// Serves them, for the machine whose control socket is in `directory`, for the life of this process.
    pub(super) fn serve(self, directory: &Path, place: &Place) -> io::Result<()> {
        let count = Arc::new(AtomicUsize::new(0));
        for (taken, port) in self.0 {
            match taken {
                Taken::Tcp(listener) => {
                    let (control, count) = (Control::of(directory), Arc::clone(&count));
                    let place = place.clone();
                    spawn("port", move || accept(&listener, port, &control, &count, &place))?;
                }
                Taken::Udp(socket) => {
                    let datagrams = Datagrams::new(socket, port, directory, place);
                    spawn("port", move || datagrams.serve())?;
                }
            }
        }
        Ok(())
    }
}

fn accept(listener: &TcpListener, port: u16, control: &Control, count: &Arc<AtomicUsize>, place: &Place) {
    loop {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if count.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            count.fetch_sub(1, Ordering::Relaxed);
            forward::break_off(&client);
            continue;
        }
        let (control, shared) = (Control::of(control.directory()), Arc::clone(count));
        let in_use = InUse::begin(place);
        let begun = spawn("forwarded", move || {
            let joined = control.open(STREAM_PORT).map_err(forward::Broken::from);
            if joined.and_then(|guest| forward::join(guest, &client, port)).is_err() {
                forward::break_off(&client);
            }
            drop(in_use);
            shared.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_err() {
            // The connection went with the thread that could not be.
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
