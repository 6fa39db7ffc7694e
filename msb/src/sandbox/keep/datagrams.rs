//! UDP ports of the host that lead into the sandbox: who sends to one is joined with a sender of its own inside, for as long as
//! either says anything, so that answers find their way back.

use std::{
    collections::HashMap,
    io,
    net::{Shutdown, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use msb_agent::protocol::{MAX_DATAGRAM, STREAM_PORT, StreamHello, read_datagram, write_datagram};
use msb_runtime::sandbox::{control::Control, forward};

use super::spawn;
use crate::sandbox::{InUse, Place};

/// Senders of one port at the same time; what further ones send is lost.
const SENDERS: usize = 256;
/// Datagrams that the sandbox has not taken yet, of each; what comes then is lost.
const WAITING: usize = 64;
/// A sender that has said nothing and was told nothing for so long is forgotten (RFC 4787, REQ-5, has two minutes).
const SILENCE: Duration = Duration::from_secs(120);
/// After a receive that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// One port.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Arc<UdpSocket>,
    guest: u16,
    control: Control,
    place: Place,
    senders: Senders,
}

/// Those that are heard now, and what leads to each.
type Senders = Arc<Mutex<HashMap<SocketAddr, SyncSender<Vec<u8>>>>>;

/// What another thread has left is as good as before.
fn lock(senders: &Senders) -> MutexGuard<'_, HashMap<SocketAddr, SyncSender<Vec<u8>>>> {
    senders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Datagrams {
    /// Of what comes to `socket`, for the port `guest` of the machine whose control socket is in `directory`.
    pub(super) fn new(socket: UdpSocket, guest: u16, directory: &Path, place: &Place) -> Self {
        let (socket, control) = (Arc::new(socket), Control::of(directory));
        Self { socket, guest, control, place: place.clone(), senders: Senders::default() }
    }

    /// Passes on what comes, for the life of this process.
    pub(super) fn serve(&self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.pass(from, buffer[..length].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn pass(&self, from: SocketAddr, datagram: Vec<u8>) {
        let mut senders = lock(&self.senders);
        if let Some(sender) = senders.get(&from) {
            // Lost where too much waits already.
            let _ = sender.try_send(datagram);
            return;
        }
        if senders.len() >= SENDERS {
            return;
        }
        let (sender, waiting) = sync_channel(WAITING);
        let _ = sender.try_send(datagram);
        let one = Sender {
            from,
            socket: Arc::clone(&self.socket),
            guest: self.guest,
            control: Control::of(self.control.directory()),
        };
        let (all, in_use) = (Arc::clone(&self.senders), InUse::begin(&self.place));
        let begun = spawn("sender", move || {
            // What breaks is begun anew with the next datagram.
            let _ = one.carry(&waiting);
            lock(&all).remove(&from);
            // Only now: until it was forgotten, it was still sent to.
            drop(waiting);
            drop(in_use);
        });
        if begun.is_ok() {
            senders.insert(from, sender);
        }
    }
}

/// One that sends to a port.
#[derive(Debug)]
struct Sender {
    from: SocketAddr,
    socket: Arc<UdpSocket>,
    guest: u16,
    control: Control,
}

impl Sender {
    /// Carries what waits into the sandbox, and back what is answered, until neither has anything to say.
    fn carry(&self, waiting: &Receiver<Vec<u8>>) -> Result<(), forward::Broken> {
        let mut guest = self.control.open(STREAM_PORT)?;
        forward::ask(&mut guest, &StreamHello::Datagrams(self.guest))?;
        guest.set_write_timeout(Some(SILENCE))?;
        let answered = Arc::new(AtomicBool::new(false));
        self.answers(guest.try_clone()?, Arc::clone(&answered))?;
        let carried = loop {
            match waiting.recv_timeout(SILENCE) {
                Ok(datagram) => {
                    if let Err(error) = write_datagram(&guest, &datagram) {
                        break Err(error.into());
                    }
                }
                Err(RecvTimeoutError::Timeout) if answered.swap(false, Ordering::Relaxed) => {}
                Err(_) => break Ok(()),
            }
        };
        // The other way ends with it.
        let _ = guest.shutdown(Shutdown::Both);
        carried
    }

    fn answers(&self, guest: UnixStream, answered: Arc<AtomicBool>) -> io::Result<()> {
        let (socket, to) = (Arc::clone(&self.socket), self.from);
        spawn("answers", move || {
            while let Ok(Some(datagram)) = read_datagram(&guest) {
                answered.store(true, Ordering::Relaxed);
                // Lost, as any datagram may be.
                let _ = socket.send_to(&datagram, to);
            }
            let _ = guest.shutdown(Shutdown::Both);
        })
    }
}
