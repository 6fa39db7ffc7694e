//! Ports of a pod, forwarded: what another process of the host sends to 127.0.0.1 in the pod's network namespace is the
//! guest's.
//!
//! containerd's `PortForward` (`kubectl port-forward`) enters that namespace and connects to localhost, as it would find a
//! container of runc's there. The namespace is the pod's alone, so that nothing else can be meant. Which ports the guest
//! serves is never asked: each connection is taken and offered to the guest, and broken off if nobody listens there.
//!
//! Enters: connections, each with its port. Leaves: streams to the guest's agent. The guest is not trusted: it can open
//! nothing here, only answer; there are at most so many connections at a time, each with two small buffers.

use std::{
    io::{self, Read},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use msb_agent::protocol::{self, FrameError, STREAM_PORT, StreamHello};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use super::cell::{Handle, HandleError};
use crate::{
    host::loopback::{Loopback, LoopbackError},
    process::stdio::copy,
};

/// Connections at the same time; further ones are broken off.
const CONNECTIONS: usize = 64;
/// Of a thread that copies, whose buffer is elsewhere.
const STACK: usize = 64 << 10;
/// How long the guest may take to say whether somebody listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// After a failing accept: descriptors are short, so wait for some to be freed.
const PAUSE: Duration = Duration::from_millis(100);

/// Why ports can't be forwarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// They can't be caught.
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    /// No thread.
    #[error("Ports can't be forwarded to the guest")]
    Thread(#[source] io::Error),
}

/// Why one connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The machine is gone, or has too many.
    #[error("The machine takes no stream")]
    Machine(#[from] HandleError),
    /// The agent is gone.
    #[error("The agent is not told")]
    Hello(#[from] FrameError),
    /// One of both sides.
    #[error("A stream broke")]
    Stream(#[from] io::Error),
    /// Nobody serves that port.
    #[error("Nobody listens")]
    Refused,
}

/// Forwards all ports of the calling thread's network namespace, for the life of the process.
///
/// # Errors
/// [`ForwardError`]; then none is forwarded.
pub(super) fn serve(machine: Handle) -> Result<(), ForwardError> {
    let loopback = Loopback::catch()?;
    let serve = move || {
        let count = Arc::new(AtomicUsize::new(0));
        loop {
            match loopback.accept() {
                Ok((client, port)) => begin(&machine, client, port, &count),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    };
    let thread = thread::Builder::new().name("forward".into()).stack_size(STACK);
    thread.spawn(serve).map(drop).map_err(ForwardError::Thread)
}

fn begin(machine: &Handle, client: TcpStream, port: u16, count: &Arc<AtomicUsize>) {
    if count.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
        count.fetch_sub(1, Ordering::Relaxed);
        break_off(&client);
        return;
    }
    let (machine, shared) = (machine.clone(), Arc::clone(count));
    let begun = thread::Builder::new().name("forwarded".into()).stack_size(STACK).spawn(move || {
        if offer(&machine, &client, port).is_err() {
            break_off(&client);
        }
        shared.fetch_sub(1, Ordering::Relaxed);
    });
    if begun.is_err() {
        // The connection went with the thread that could not be.
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn offer(machine: &Handle, client: &TcpStream, port: u16) -> Result<(), Broken> {
    let (guest, theirs) = UnixStream::pair()?;
    machine.connect(STREAM_PORT, theirs)?;
    join(guest, client, port)
}

/// Offers a connection to whoever serves `port` in the guest, by a stream to its agent ([`STREAM_PORT`]), and copies both ways,
/// each until its own end.
///
/// # Errors
/// [`Broken`]; nothing was read from the client then.
pub fn join(mut guest: UnixStream, client: &TcpStream, port: u16) -> Result<(), Broken> {
    ask(&mut guest, &StreamHello::Port(port))?;
    thread::scope(|scope| {
        let back =
            thread::Builder::new().name("forwarded".into()).stack_size(STACK).spawn_scoped(scope, || {
                pass(&guest, client);
                let _ = client.shutdown(Shutdown::Write);
            })?;
        pass(client, &guest);
        let _ = guest.shutdown(Shutdown::Write);
        // It does not panic; what it did is on its streams.
        let _ = back.join();
        Ok(())
    })
}

/// Asks the agent at the other end of a new stream for what `hello` says; returns once it has it.
///
/// # Errors
/// [`Broken`].
pub fn ask(guest: &mut UnixStream, hello: &StreamHello) -> Result<(), Broken> {
    protocol::write_first(guest, hello)?;
    guest.set_read_timeout(Some(PATIENCE))?;
    let mut listens = [0];
    guest.read_exact(&mut listens)?;
    if listens != [protocol::CONNECTED] {
        return Err(Broken::Refused);
    }
    Ok(guest.set_read_timeout(None)?)
}

/// An error of either side ends this way of the connection, as its end would.
fn pass(mut from: impl Read, mut to: impl io::Write) {
    let _ = copy(&mut from, &mut to);
}

/// The other side learns that it was not heard, as far as TCP can tell after an accept: by a reset.
pub fn break_off(client: &TcpStream) {
    // Without it, the connection ends in order, with nothing said.
    let _ = setsockopt(client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
