//! One stream: the state between a socket of the host and a port of the guest.
//!
//! Enters: packets of the guest, readiness of the socket. Leaves: bytes into the socket, packets for the guest one at a
//! time, and a [`Verdict`]. Must never know other connections, queues or the event loop.
//!
//! ```text
//!  socket ──read, while the guest has credit──▶ RW                          end of file ──▶ SHUTDOWN(send)
//!  socket ◀──write── backlog ◀──what did not fit── RW      SHUTDOWN(send), backlog empty ──▶ shutdown(Write)
//!  socket gone: backlog dropped, SHUTDOWN(receive)         SHUTDOWN(both), backlog empty ──▶ RST
//! ```

use std::io::{self, Read};
use std::net::Shutdown;
use std::num::Wrapping;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use vm_memory::{ReadVolatile, VolatileSlice};
use vmm_sys_util::epoll::EventSet;

use super::backlog::Backlog;
use super::header::{Credit, Header, Op, Ports, Shut};
use super::packet::{Message, Packet, Payload, volatile};

/// Our receive buffer of a connection, `buf_alloc` (VIRTIO 1.2, section 5.10.6.3), in bytes. It takes memory only while
/// the socket's reader is slow. Four of Linux's largest packets: with two, the guest waits for credit half of the time.
pub const BUF_ALLOC: u32 = 256 * 1024;
/// The same when there are many connections, so that a guest cannot make us hold much in all.
pub const BUF_ALLOC_SMALL: u32 = 64 * 1024;
/// At most so much unread input is thrown away when a socket is closed (see [`Connection`]'s `drop`).
const DISCARD_LIMIT: usize = 1024 * 1024;

/// What is to become of a connection after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It is over, and the guest is to be told by a reset.
    Reset,
    /// It is over, and the guest knows.
    Gone,
}

/// One direction of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// The source has ended; what is buffered still goes out.
    Ending,
    Closed,
}

/// Packets without payload that the guest is to be sent.
#[derive(Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    credit_update: bool,
    shutdown: Shut,
}

/// One stream.
#[derive(Debug)]
pub struct Connection {
    ports: Ports,
    socket: UnixStream,
    /// Both sides have agreed to it.
    established: bool,
    to_guest: Flow,
    from_guest: Flow,
    /// What the guest has said, and what we have.
    guest_shut: Shut,
    said_shut: Shut,
    owed: Owed,
    /// The guest's buffer, and the bytes sent into it so far.
    guest: Credit,
    sent: Wrapping<u32>,
    /// The guest was asked for credit since it last had some.
    asked: bool,
    /// Its answer has not come yet.
    unanswered: bool,
    /// It tells of its credit without being asked, as Linux does: asking would only double the packets.
    volunteers: bool,
    /// Bytes of the guest that have left our hands, and what the guest knows of that.
    forwarded: Wrapping<u32>,
    told: Wrapping<u32>,
    /// Size of our buffer, and what of the guest's bytes is in it.
    buf_alloc: u32,
    backlog: Backlog,
    /// The socket may have input; false after it had none (the event loop is edge-triggered).
    readable: bool,
}

impl Connection {
    /// The host's side asks for a port of the guest.
    pub fn outgoing(ports: Ports, socket: UnixStream, buf_alloc: u32) -> Self {
        let owed = Owed { request: true, ..Owed::default() };
        Self::new(ports, socket, owed, buf_alloc)
    }

    /// The guest has asked for a port of the host.
    pub fn incoming(ports: Ports, socket: UnixStream, buf_alloc: u32, guest: Credit) -> Self {
        let owed = Owed { response: true, ..Owed::default() };
        let mut connection = Self::new(ports, socket, owed, buf_alloc);
        connection.guest = guest;
        connection.established = true;
        connection
    }

    fn new(ports: Ports, socket: UnixStream, owed: Owed, buf_alloc: u32) -> Self {
        Self {
            ports,
            socket,
            established: false,
            to_guest: Flow::Open,
            from_guest: Flow::Open,
            guest_shut: Shut::default(),
            said_shut: Shut::default(),
            owed,
            guest: Credit::default(),
            sent: Wrapping(0),
            asked: false,
            unanswered: false,
            volunteers: false,
            forwarded: Wrapping(0),
            told: Wrapping(0),
            buf_alloc,
            backlog: Backlog::default(),
            readable: true,
        }
    }

    /// Its name.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// What the event loop watches.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Bytes of the guest wait for the socket: it is to be watched for writing.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Takes a packet of the guest.
    pub fn receive(&mut self, packet: Packet<'_>) -> Verdict {
        let waited = self.asked;
        self.guest = packet.credit;
        if self.credit() > 0 {
            self.asked = false;
        }
        match packet.message {
            Message::Reset => Verdict::Gone,
            Message::Response if !self.established => {
                self.established = true;
                Verdict::Keep
            }
            Message::Request | Message::Response => Verdict::Reset,
            Message::CreditUpdate => {
                self.volunteers |= waited && !std::mem::take(&mut self.unanswered);
                Verdict::Keep
            }
            Message::CreditRequest => {
                self.owed.credit_update = true;
                Verdict::Keep
            }
            _ if !self.established => Verdict::Reset,
            Message::Data(payload) => self.receive_data(payload),
            Message::Shutdown(shut) => self.receive_shutdown(shut),
        }
    }

    fn receive_data(&mut self, mut payload: Payload<'_>) -> Verdict {
        let room = usize::try_from(self.buf_alloc).unwrap_or(usize::MAX).saturating_sub(self.backlog.len());
        if payload.len() > room || self.guest_shut.send {
            // More than it had credit for, or more after the end.
            return Verdict::Reset;
        }
        if self.from_guest == Flow::Closed {
            // Nobody reads any more, as the guest was told or soon is.
            self.forward(payload.len());
            return Verdict::Keep;
        }
        if self.backlog.is_empty() {
            match payload.write_to(&self.socket) {
                Ok(count) => self.forward(count),
                Err(_) => {
                    self.forward(payload.len());
                    self.reader_gone();
                    return Verdict::Keep;
                }
            }
        }
        if payload.len() > 0 {
            self.backlog.append(&payload);
        }
        Verdict::Keep
    }

    fn receive_shutdown(&mut self, shut: Shut) -> Verdict {
        self.guest_shut = self.guest_shut.or(shut);
        if self.guest_shut.receive && self.to_guest != Flow::Closed {
            self.to_guest = Flow::Closed;
            // Fails only when the other end is gone, which the event loop will tell.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if self.guest_shut.send && self.from_guest == Flow::Open {
            self.from_guest = Flow::Ending;
        }
        self.advance()
    }

    /// The socket is ready for something.
    pub fn socket_ready(&mut self, events: EventSet) -> Verdict {
        if events.contains(EventSet::HANG_UP) {
            self.reader_gone();
        } else if self.has_backlog() {
            match self.backlog.flush(&self.socket) {
                Ok(count) => self.forward(count),
                Err(_) => self.reader_gone(),
            }
        }
        // Errors and hang-ups are found by reading, after what was sent before them.
        let input = EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR;
        self.readable |= events.intersects(input);
        self.advance()
    }

    /// Goes on once the backlog is out.
    fn advance(&mut self) -> Verdict {
        if self.from_guest == Flow::Ending && self.backlog.is_empty() {
            self.from_guest = Flow::Closed;
            // Fails only when the other end is gone.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        let over = self.guest_shut.receive && self.guest_shut.send && self.from_guest == Flow::Closed;
        if over { Verdict::Reset } else { Verdict::Keep }
    }

    /// Nobody reads what the guest sends: what waits is dropped, and the guest is told.
    fn reader_gone(&mut self) {
        self.forward(self.backlog.len());
        self.backlog = Backlog::default();
        self.from_guest = Flow::Closed;
        self.owed.shutdown.receive = true;
    }

    /// Bytes of the guest have left our hands.
    fn forward(&mut self, count: usize) {
        self.forwarded += u32::try_from(count).expect("no more than was buffered");
        if (self.forwarded - self.told).0 >= self.buf_alloc / 4 {
            self.owed.credit_update = true;
        }
    }

    /// Bytes that the guest can take now. A guest that counts wrong has none.
    fn credit(&self) -> u32 {
        let in_flight = (self.sent - Wrapping(self.guest.fwd_cnt)).0;
        self.guest.buf_alloc.saturating_sub(in_flight)
    }

    fn has_input(&self) -> bool {
        self.established && self.readable && self.to_guest == Flow::Open
    }

    /// Input waits, and the guest has to be asked for credit.
    fn should_ask(&self) -> bool {
        self.credit() == 0 && !self.asked && !self.volunteers
    }

    fn owes_shutdown(&self) -> bool {
        self.established && self.said_shut.or(self.owed.shutdown) != self.said_shut
    }

    /// Whether [`Self::transmit`] is likely to have a packet.
    pub fn wants_room(&self) -> bool {
        self.owed.request
            || self.owed.response
            || self.owed.credit_update
            || self.owes_shutdown()
            || (self.has_input() && (self.credit() > 0 || self.should_ask()))
    }

    /// The next packet for the guest, its payload read into `room` (which is not empty).
    pub fn transmit(&mut self, room: &VolatileSlice<'_>) -> Option<Header> {
        let (op, len) = self.next_packet(room)?;
        self.told = self.forwarded;
        self.owed.credit_update = false;
        let credit = Credit { buf_alloc: self.buf_alloc, fwd_cnt: self.forwarded.0 };
        let mut header = Header::to_guest(self.ports, op, credit);
        header.len = len;
        if op == Op::Shutdown {
            self.said_shut = self.said_shut.or(self.owed.shutdown);
            header.flags = self.said_shut.bits();
        }
        Some(header)
    }

    fn next_packet(&mut self, room: &VolatileSlice<'_>) -> Option<(Op, u32)> {
        if std::mem::take(&mut self.owed.request) {
            return Some((Op::Request, 0));
        }
        if std::mem::take(&mut self.owed.response) {
            return Some((Op::Response, 0));
        }
        if self.has_input() && self.credit() > 0 {
            let len = self.read_into(room);
            if len > 0 {
                return Some((Op::Rw, len));
            }
        }
        if self.owes_shutdown() {
            return Some((Op::Shutdown, 0));
        }
        if self.has_input() && self.should_ask() {
            self.asked = true;
            self.unanswered = true;
            return Some((Op::CreditRequest, 0));
        }
        self.owed.credit_update.then_some((Op::CreditUpdate, 0))
    }

    /// Reads as much as the guest has credit for; 0 when there is nothing now, or no more.
    fn read_into(&mut self, room: &VolatileSlice<'_>) -> u32 {
        let limit = usize::try_from(self.credit()).unwrap_or(usize::MAX).min(room.len());
        let Ok(mut room) = room.subslice(0, limit) else {
            return 0;
        };
        loop {
            match volatile((&self.socket).read_volatile(&mut room)) {
                Ok(0) => {
                    self.to_guest = Flow::Closed;
                    self.owed.shutdown.send = true;
                    return 0;
                }
                Ok(count) => {
                    let count = u32::try_from(count).expect("no more than the credit");
                    self.sent += count;
                    return count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return 0;
                }
                // The other end was closed with our bytes unread.
                Err(_) => {
                    self.to_guest = Flow::Closed;
                    self.owed.shutdown.send = true;
                    self.reader_gone();
                    return 0;
                }
            }
        }
    }
}

impl Drop for Connection {
    /// Closes the socket so that its other end sees the end of the stream: a unix socket that is closed with unread
    /// input gives `ECONNRESET` there instead.
    fn drop(&mut self) {
        // Fails only when the other end is gone.
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut scratch = [0; 16 * 1024];
        let mut discarded = 0;
        while discarded < DISCARD_LIMIT {
            match self.socket.read(&mut scratch) {
                Ok(0) | Err(_) => break,
                Ok(count) => discarded += count,
            }
        }
    }
}
