//! All streams of one activation: which exist, whose turn it is, and what else the guest is owed.
//!
//! Enters: packets of the guest, readiness of sockets, streams that the host opens. Leaves: packets for the guest, one
//! per buffer that it offers; streams that the guest opened, to who listens. Must never know virtqueues.
//!
//! Everything is bounded: connections by [`MAX_CONNECTIONS`], waiting resets by [`Mux::congested`], which stops the
//! reading of the guest's packets until it has taken what it is owed (VIRTIO 1.2, section 5.10.6.1).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vm_memory::VolatileSlice;
use vmm_sys_util::epoll::EventSet;

use super::connection::{BUF_ALLOC, BUF_ALLOC_SMALL, Connection, Verdict};
use super::header::{Credit, HOST_CID, Header, Op, Ports};
use super::packet::{Message, Packet, Parsed};
use crate::machine::events::Watcher;

/// Streams at the same time, those included that are only being flushed.
pub const MAX_CONNECTIONS: usize = 1024;
/// With so many connections, the next get a smaller buffer.
const FEW_CONNECTIONS: usize = 256;
/// With so many resets waiting, no more packets of the guest are read.
const MAX_RESETS: usize = 256;
/// Host ports of connections that the host opens begin here, far from those that are listened on.
const FIRST_PORT: u32 = 1 << 30;
/// The first event id of a socket; those below are the device's.
pub const FIRST_ID: u32 = 1;
/// What every socket is watched for; writability only while there is a backlog.
const INPUT: EventSet = EventSet::from_bits_truncate(
    EventSet::IN.bits() | EventSet::READ_HANG_UP.bits() | EventSet::EDGE_TRIGGERED.bits(),
);

/// Takes a stream that the guest opened; false refuses it. Called on the device thread, which it must not keep.
pub type Listener = Arc<dyn Fn(UnixStream) -> bool + Send + Sync>;

/// Where streams that the guest opens go, by host port.
#[derive(Clone, Default)]
pub struct Listeners(BTreeMap<u32, Listener>);

impl Listeners {
    /// From now on `listener` takes the streams to `port`.
    pub fn insert(&mut self, port: u32, listener: Listener) {
        self.0.insert(port, listener);
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One connection and its place in the mux.
#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// It is in `ready`.
    queued: bool,
    /// Its socket is watched for writability.
    watching_output: bool,
    /// The guest knows it no more; only its backlog is still written.
    orphan: bool,
}

/// The table of streams.
#[derive(Debug)]
pub struct Mux {
    watcher: Watcher,
    listeners: Listeners,
    entries: HashMap<u32, Entry>,
    by_ports: HashMap<Ports, u32>,
    /// Those of `entries` that want to send, each once, in the order of their turns.
    ready: VecDeque<u32>,
    resets: VecDeque<Header>,
    next_id: u32,
    next_port: u32,
}

impl Mux {
    /// An empty table. Sockets are watched under ids from `FIRST_ID` up, beginning with `next_id`.
    pub fn new(watcher: Watcher, listeners: Listeners, next_id: u32) -> Self {
        Self {
            watcher,
            listeners,
            entries: HashMap::new(),
            by_ports: HashMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            next_id,
            next_port: FIRST_PORT,
        }
    }

    /// Where the ids of the next activation begin: an event that is still on its way must not meet another socket.
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The host opens a stream (non-blocking) to a port of the guest. It is closed at once when the table is full.
    pub fn connect(&mut self, guest_port: u32, stream: UnixStream) {
        let ports = self.fresh_ports(guest_port);
        // A stream that cannot be watched is closed, which is all that its other end can be told.
        let _ = self.insert(Connection::outgoing(ports, stream, self.buf_alloc()));
    }

    /// A host port that makes a new name with that guest port. There are more ports than connections.
    fn fresh_ports(&mut self, guest: u32) -> Ports {
        loop {
            let ports = Ports { host: self.next_port, guest };
            self.next_port =
                self.next_port.checked_add(1).filter(|port| *port != u32::MAX).unwrap_or(FIRST_PORT);
            if !self.by_ports.contains_key(&ports) && !self.listeners.0.contains_key(&ports.host) {
                return ports;
            }
        }
    }

    /// Adds a connection, watches its socket and gives it its first turn. False when it was closed instead.
    fn insert(&mut self, connection: Connection) -> bool {
        if self.entries.len() >= MAX_CONNECTIONS {
            return false;
        }
        let id = self.fresh_id();
        if self.watcher.watch(connection.fd(), id, INPUT).is_err() {
            return false;
        }
        self.by_ports.insert(connection.ports(), id);
        let entry = Entry { connection, queued: false, watching_output: false, orphan: false };
        self.entries.insert(id, entry);
        self.settle(id, Verdict::Keep);
        true
    }

    /// The receive buffer of the next connection. One of the larger is given only while there are few connections of any
    /// size, so that there are never more than few of the larger: 112 MiB in all, if every reader on the host is stuck.
    fn buf_alloc(&self) -> u32 {
        if self.entries.len() < FEW_CONNECTIONS { BUF_ALLOC } else { BUF_ALLOC_SMALL }
    }

    fn fresh_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = if id == i32::MAX.unsigned_abs() { FIRST_ID } else { id + 1 };
            if !self.entries.contains_key(&id) {
                return id;
            }
        }
    }

    /// Takes what a chain of the guest was.
    pub fn receive(&mut self, parsed: Parsed<'_>) {
        let packet = match parsed {
            Parsed::Packet(packet) => packet,
            Parsed::Refused(reset) => {
                // A packet that breaks the rules ends the connection whose it is.
                let ports = Ports { host: reset.src_port, guest: reset.dst_port };
                match self.by_ports.get(&ports) {
                    Some(id) if reset.src_cid == HOST_CID => self.settle(*id, Verdict::Reset),
                    _ => self.resets.push_back(reset),
                }
                return;
            }
            Parsed::Malformed => return,
        };
        if let Some(id) = self.by_ports.get(&packet.ports).copied()
            && let Some(entry) = self.entries.get_mut(&id)
        {
            let verdict = entry.connection.receive(packet);
            self.settle(id, verdict);
            return;
        }
        match packet.message {
            Message::Reset => {}
            Message::Request if self.accept(&packet) => {}
            _ => self.reset(packet.ports),
        }
    }

    /// The guest asks for a port of the host. False when it is refused.
    fn accept(&mut self, packet: &Packet<'_>) -> bool {
        let Some(listener) = self.listeners.0.get(&packet.ports.host) else {
            return false;
        };
        if self.entries.len() >= MAX_CONNECTIONS {
            return false;
        }
        let Ok((ours, theirs)) = nonblocking_pair() else {
            return false;
        };
        if !listener(theirs) {
            // Nobody takes them in time, or nobody listens any more.
            return false;
        }
        self.insert(Connection::incoming(packet.ports, ours, self.buf_alloc(), packet.credit))
    }

    fn reset(&mut self, ports: Ports) {
        self.resets.push_back(Header::to_guest(ports, Op::Rst, Credit::default()));
    }

    /// A watched socket is ready. Unknown ids are of sockets closed since.
    pub fn socket_ready(&mut self, id: u32, events: EventSet) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let verdict = entry.connection.socket_ready(events);
            self.settle(id, verdict);
        }
    }

    /// After anything happened to a connection: its end, its turn, what its socket is watched for.
    fn settle(&mut self, id: u32, verdict: Verdict) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let ports = entry.connection.ports();
        if verdict != Verdict::Keep && !entry.orphan {
            entry.orphan = true;
            self.by_ports.remove(&ports);
            if verdict == Verdict::Reset {
                self.resets.push_back(Header::to_guest(ports, Op::Rst, Credit::default()));
            }
        }
        let output = entry.connection.has_backlog();
        if output != entry.watching_output {
            entry.watching_output = output;
            let events = if output { INPUT | EventSet::OUT } else { INPUT };
            if self.watcher.rewatch(entry.connection.fd(), id, events).is_err() {
                return self.remove(id);
            }
        }
        if entry.orphan {
            if !output {
                self.remove(id);
            }
        } else if !entry.queued && entry.connection.wants_room() {
            entry.queued = true;
            self.ready.push_back(id);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(entry) = self.entries.remove(&id) {
            if !entry.orphan {
                self.by_ports.remove(&entry.connection.ports());
            }
            if entry.queued {
                // A guest that takes nothing would have them pile up.
                self.ready.retain(|other| *other != id);
            }
            // The descriptor is closed next, which does the same where nobody has a duplicate.
            let _ = self.watcher.unwatch(entry.connection.fd());
        }
    }

    /// The guest has to take some of what it is owed before more of its packets are read.
    pub fn congested(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    /// Whether [`Self::transmit`] is likely to have a packet.
    pub fn wants_room(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// The next packet for the guest, its payload in `room`; the streams take turns.
    pub fn transmit(&mut self, room: &VolatileSlice<'_>) -> Option<Header> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            entry.queued = false;
            if entry.orphan {
                continue;
            }
            let header = entry.connection.transmit(room);
            self.settle(id, Verdict::Keep);
            if header.is_some() {
                return header;
            }
        }
        None
    }
}

/// Two ends of a stream; the first is the mux's.
fn nonblocking_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, theirs))
}
