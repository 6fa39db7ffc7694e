//! Ports of the host that lead into the sandbox: each connection is offered to the guest's agent, which dials inside.
//!
//! So a sandbox without any network can have them as well, the host needs no rule of any firewall, and a program that listens
//! on the sandbox's 127.0.0.1 alone is reached, too. The sandbox is not trusted: it can only answer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
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

use super::spawn;
use crate::sandbox::{Port, Protocol};

/// Connections of one sandbox at the same time; further ones are broken off.
const CONNECTIONS: usize = 1024;
/// After an accept that fails, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a port can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// Not over vsock.
    #[error("{0} can't be published: only TCP ports can be")]
    Udp(Port),
    /// It is taken, or not ours to take.
    #[error("The port {address} of the host can't be had: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// Ports that nobody else can take any more.
#[derive(Debug)]
pub(super) struct Listeners(Vec<(TcpListener, u16)>);

impl Listeners {
    /// Takes them; those that were left open become those that were free.
    pub(super) fn bind(ports: &mut [Port]) -> Result<Self, PortError> {
        let mut all = Vec::new();
        for port in ports {
            if port.protocol == Protocol::Udp {
                return Err(PortError::Udp(*port));
            }
            let address = SocketAddr::new(port.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port.host);
            let failed = |source| PortError::Bind { address, source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            port.host = listener.local_addr().map_err(failed)?.port();
            all.push((listener, port.guest));
        }
        Ok(Self(all))
    }

    /// Serves them, for the machine whose control socket is in `directory`, for the life of this process.
    pub(super) fn serve(self, directory: &Path) -> io::Result<()> {
        let count = Arc::new(AtomicUsize::new(0));
        for (listener, port) in self.0 {
            let (control, count) = (Control::of(directory), Arc::clone(&count));
            spawn("port", move || accept(&listener, port, &control, &count))?;
        }
        Ok(())
    }
}

fn accept(listener: &TcpListener, port: u16, control: &Control, count: &Arc<AtomicUsize>) {
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
        let begun = spawn("forwarded", move || {
            let joined = control.open(STREAM_PORT).map_err(forward::Broken::from);
            if joined.and_then(|guest| forward::join(guest, &client, port)).is_err() {
                forward::break_off(&client);
            }
            shared.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_err() {
            // The connection went with the thread that could not be.
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
