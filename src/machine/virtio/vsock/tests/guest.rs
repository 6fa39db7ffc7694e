//! A guest that speaks the protocol: its memory, its rings, and an event loop with only this device in it.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::machine::events::{Watcher, decode};
use crate::machine::virtio::vsock::connection::BUF_ALLOC;
use crate::machine::virtio::vsock::header::{Credit, GUEST_CID, HEADER_LEN, HOST_CID, Header, Op, Ports};
use crate::machine::virtio::vsock::{Listeners, Vsock, VsockHandle};
use crate::machine::virtio::window::Window;
use crate::machine::virtio::{Active, DeviceQueue, Interrupt, Token, VirtioDevice};

/// What the guest advertises unless a test says otherwise.
pub const GUEST_BUFFER: u32 = 256 * 1024;

/// Streams that wait until somebody looks, per port.
pub const LISTEN_BACKLOG: usize = 64;
/// As many as the device has places.
pub const RX_RING: u16 = 32;
const RING: u16 = 128;
const EVENT_RING: u16 = 8;
const RX_BUFFER: u32 = 16 << 10;
/// Room for a header and 64 KiB, on 4 descriptors.
const TX_SLOT: u32 = 68 * 1024;
const TX_SLOTS: u16 = RING / 4;

/// The driver's side of one ring.
struct Ring {
    base: u64,
    size: u16,
    available: u16,
    seen: u16,
    kick: EventFd,
}

impl Ring {
    fn new(memory: &GuestMemoryMmap, base: u64, size: u16) -> Self {
        memory.write_slice(&[0; 0x2000], GuestAddress(base)).unwrap();
        Self { base, size, available: 0, seen: 0, kick: EventFd::new(EFD_NONBLOCK).unwrap() }
    }

    fn queue(&self) -> DeviceQueue {
        let mut queue = Queue::new(self.size).unwrap();
        queue.set_size(self.size);
        let low = |offset: u64| Some(u32::try_from(self.base + offset).unwrap());
        queue.set_desc_table_address(low(0), Some(0));
        queue.set_avail_ring_address(low(0x1000), Some(0));
        queue.set_used_ring_address(low(0x1800), Some(0));
        queue.set_event_idx(true);
        queue.set_ready(true);
        DeviceQueue::new(queue, self.kick.try_clone().unwrap(), 0)
    }

    fn descriptor(&self, memory: &GuestMemoryMmap, index: u16, buffer: (u64, u32), flags: u16) {
        let at = self.base + u64::from(index) * 16;
        memory.write_obj(buffer.0, GuestAddress(at)).unwrap();
        memory.write_obj(buffer.1, GuestAddress(at + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        memory.write_obj(index + 1, GuestAddress(at + 14)).unwrap();
    }

    fn offer(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let at = self.base + 0x1000 + 4 + u64::from(self.available % self.size) * 2;
        memory.write_obj(head, GuestAddress(at)).unwrap();
        self.available = self.available.wrapping_add(1);
        memory.store(self.available, GuestAddress(self.base + 0x1002), Ordering::Release).unwrap();
    }

    /// The next used chain: its head and the bytes written.
    fn used(&mut self, memory: &GuestMemoryMmap) -> Option<(u16, u32)> {
        let index: u16 = memory.load(GuestAddress(self.base + 0x1802), Ordering::Acquire).unwrap();
        if index == self.seen {
            return None;
        }
        let at = self.base + 0x1800 + 4 + u64::from(self.seen % self.size) * 8;
        let head: u32 = memory.read_obj(GuestAddress(at)).unwrap();
        let length: u32 = memory.read_obj(GuestAddress(at + 4)).unwrap();
        self.seen = self.seen.wrapping_add(1);
        Some((u16::try_from(head).unwrap(), length))
    }
}

/// The whole guest, and the device that it sees.
pub struct Guest {
    pub device: Vsock,
    pub handle: VsockHandle,
    pub listeners: BTreeMap<u32, Receiver<UnixStream>>,
    pub memory: GuestMemoryMmap,
    /// Give receive buffers back as soon as they were read.
    pub refill: bool,
    epoll: Arc<Epoll>,
    rx: Ring,
    tx: Ring,
    event: Ring,
    free_rx: Vec<u16>,
    free_tx: Vec<u16>,
    inbox: VecDeque<(Header, Vec<u8>)>,
}

/// Listeners that keep a few streams of each port for who looks.
pub fn channels(ports: &[u32]) -> (Listeners, BTreeMap<u32, Receiver<UnixStream>>) {
    let (mut listeners, mut receivers) = (Listeners::default(), BTreeMap::new());
    for port in ports {
        let (sender, receiver) = std::sync::mpsc::sync_channel(LISTEN_BACKLOG);
        listeners.insert(*port, Arc::new(move |stream| sender.try_send(stream).is_ok()));
        receivers.insert(*port, receiver);
    }
    (listeners, receivers)
}

impl Guest {
    /// A device that is not active yet.
    pub fn new(host_ports: &[u32]) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
        let (listeners, taken) = channels(host_ports);
        let (device, handle) = Vsock::new(listeners).unwrap();
        let ring = |at, size| Ring::new(&memory, at, size);
        Self {
            device,
            handle,
            listeners: taken,
            refill: true,
            epoll: Arc::new(Epoll::new().unwrap()),
            rx: ring(0x1_0000, RX_RING),
            tx: ring(0x2_0000, RING),
            event: ring(0x3_0000, EVENT_RING),
            free_rx: (0..RX_RING).collect(),
            free_tx: (0..TX_SLOTS).collect(),
            inbox: VecDeque::new(),
            memory,
        }
    }

    /// An active device with all receive buffers offered.
    pub fn active(host_ports: &[u32]) -> Self {
        let mut guest = Self::new(host_ports);
        guest.activate();
        guest.offer_buffers();
        guest
    }

    /// The driver is up; no receive buffers yet.
    pub fn activate(&mut self) {
        let watcher = Watcher::new(Arc::clone(&self.epoll), 0);
        for (index, ring) in [&self.rx, &self.tx, &self.event].into_iter().enumerate() {
            let event = EpollEvent::new(EventSet::IN, u64::try_from(index).unwrap());
            self.epoll.ctl(ControlOperation::Add, ring.kick.as_raw_fd(), event).unwrap();
        }
        let active = Active {
            memory: self.memory.clone(),
            queues: vec![self.rx.queue(), self.tx.queue(), self.event.queue()],
            interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap()),
            features: 0,
            watcher,
        };
        self.device.activate(active).unwrap();
    }

    /// Resets the device and starts again with fresh rings.
    pub fn restart(&mut self) {
        assert!(self.device.reset());
        self.epoll = Arc::new(Epoll::new().unwrap());
        self.rx = Ring::new(&self.memory, 0x1_0000, RX_RING);
        self.tx = Ring::new(&self.memory, 0x2_0000, RING);
        self.event = Ring::new(&self.memory, 0x3_0000, EVENT_RING);
        self.free_rx = (0..RX_RING).collect();
        self.free_tx = (0..TX_SLOTS).collect();
        self.inbox.clear();
        self.activate();
        self.offer_buffers();
    }

    /// Offers all receive buffers that are free, and kicks.
    pub fn offer_buffers(&mut self) {
        for slot in std::mem::take(&mut self.free_rx) {
            let buffer = 0x10_0000 + u64::from(slot) * u64::from(RX_BUFFER);
            self.rx.descriptor(&self.memory, slot, (buffer, RX_BUFFER), 2);
            self.rx.offer(&self.memory, slot);
        }
        self.rx.kick.write(1).unwrap();
    }

    /// Whether the device has read all packets but so many that there is no room for one more.
    pub fn can_send(&mut self) -> bool {
        while let Some((head, _)) = self.tx.used(&self.memory) {
            self.free_tx.push(head / 4);
        }
        !self.free_tx.is_empty()
    }

    /// Sends raw bytes as one packet, cut into as many descriptors as `cuts` + 1 says, and kicks.
    pub fn send_raw(&mut self, bytes: &[u8], cuts: &[usize]) {
        while !self.can_send() {
            self.turn(0);
        }
        let slot = self.free_tx.pop().unwrap();
        let base = 0x40_0000 + u64::from(slot) * u64::from(TX_SLOT);
        self.memory.write_slice(bytes, GuestAddress(base)).unwrap();
        let ends: Vec<usize> = cuts.iter().copied().chain([bytes.len()]).collect();
        let mut start = 0;
        for (piece, end) in ends.iter().enumerate() {
            let index = slot * 4 + u16::try_from(piece).unwrap();
            let buffer = (base + start as u64, u32::try_from(end - start).unwrap());
            let next = u16::from(piece + 1 < ends.len());
            self.tx.descriptor(&self.memory, index, buffer, next);
            start = *end;
        }
        self.tx.offer(&self.memory, slot * 4);
        self.tx.kick.write(1).unwrap();
    }

    /// Sends a packet with header and payload in descriptors of their own.
    pub fn send(&mut self, header: &Header, payload: &[u8]) {
        let bytes = [&header.encode()[..], payload].concat();
        if payload.is_empty() { self.send_raw(&bytes, &[]) } else { self.send_raw(&bytes, &[HEADER_LEN]) }
    }

    /// One turn of the event loop, waiting at most so many milliseconds. False when nothing happened.
    pub fn turn(&mut self, timeout: i32) -> bool {
        let mut events = [EpollEvent::default(); 16];
        let count = self.epoll.wait(timeout, &mut events).unwrap();
        for event in &events[..count] {
            let (_, token) = decode(event);
            if let Token::Queue(index) = token {
                [&self.rx, &self.tx, &self.event][usize::from(index)].kick.read().unwrap();
            }
            self.device.handle(token).unwrap();
        }
        count > 0
    }

    /// Runs the device until it has nothing to do, and takes what it sent.
    pub fn settle(&mut self) {
        loop {
            let busy = self.turn(0);
            if !self.take_used() && !busy {
                return;
            }
        }
    }

    fn take_used(&mut self) -> bool {
        let mut any = false;
        while let Some((slot, length)) = self.rx.used(&self.memory) {
            any = true;
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            let buffer = 0x10_0000 + u64::from(slot) * u64::from(RX_BUFFER);
            self.memory.read_slice(&mut bytes, GuestAddress(buffer)).unwrap();
            let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
            assert_eq!(header.len as usize, bytes.len() - HEADER_LEN);
            assert_eq!((header.dst_cid, header.kind), (GUEST_CID, 1));
            self.inbox.push_back((header, bytes.split_off(HEADER_LEN)));
            self.free_rx.push(slot);
        }
        if any && self.refill {
            self.offer_buffers();
        }
        any
    }

    /// The next packet that the device sent, after it has done all it can.
    pub fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        if self.inbox.is_empty() {
            self.settle();
        }
        self.inbox.pop_front()
    }

    /// The next packet must be of that kind.
    pub fn expect(&mut self, op: Op) -> (Header, Vec<u8>) {
        let (header, payload) = self.next().expect("a packet");
        assert_eq!(header.op, op as u16, "{header:?}");
        (header, payload)
    }

    /// The device must have nothing to say.
    pub fn expect_silence(&mut self) {
        assert_eq!(self.next().map(|(header, _)| header), None);
    }
}

/// The guest's end of one stream.
#[derive(Debug, Clone)]
pub struct Peer {
    pub ports: Ports,
    pub buffer: u32,
    /// Bytes received and, as all is read at once, forwarded.
    pub received: Vec<u8>,
    /// Bytes sent, and what the device told of its buffer.
    pub sent: u32,
    pub device: Credit,
    /// Shutdown flags that the device sent.
    pub shut: u32,
    pub reset: bool,
}

impl Peer {
    pub fn new(ports: Ports) -> Self {
        Self {
            ports,
            buffer: GUEST_BUFFER,
            received: Vec::new(),
            sent: 0,
            device: Credit::default(),
            shut: 0,
            reset: false,
        }
    }

    /// A header of this stream.
    pub fn header(&self, op: Op) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: self.ports.guest,
            dst_port: self.ports.host,
            len: 0,
            kind: 1,
            op: op as u16,
            flags: 0,
            credit: Credit { buf_alloc: self.buffer, fwd_cnt: u32::try_from(self.received.len()).unwrap() },
        }
    }

    pub fn say(&self, guest: &mut Guest, op: Op) {
        guest.send(&self.header(op), &[]);
    }

    pub fn shutdown(&self, guest: &mut Guest, flags: u32) {
        guest.send(&Header { flags, ..self.header(Op::Shutdown) }, &[]);
    }

    /// Bytes that may be sent now.
    pub fn credit(&self) -> u32 {
        self.device.buf_alloc.saturating_sub(self.sent.wrapping_sub(self.device.fwd_cnt))
    }

    pub fn send(&mut self, guest: &mut Guest, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap();
        self.sent = self.sent.wrapping_add(len);
        guest.send(&Header { len, ..self.header(Op::Rw) }, bytes);
    }

    /// Takes a packet of this stream; says whether the device wants an answer or more credit.
    pub fn take(&mut self, guest: &mut Guest, header: &Header, payload: &[u8]) {
        assert_eq!((header.src_port, header.dst_port), (self.ports.host, self.ports.guest));
        if header.op != Op::Rst as u16 {
            assert_eq!(header.credit.buf_alloc, BUF_ALLOC);
            self.device = header.credit;
        }
        match header.op {
            op if op == Op::Rw as u16 => {
                self.received.extend_from_slice(payload);
                if self.received.len() % (GUEST_BUFFER / 4) as usize <= payload.len() {
                    self.say(guest, Op::CreditUpdate);
                }
            }
            op if op == Op::Shutdown as u16 => self.shut |= header.flags,
            op if op == Op::Rst as u16 => self.reset = true,
            op if op == Op::CreditRequest as u16 => self.say(guest, Op::CreditUpdate),
            op => assert!(op == Op::CreditUpdate as u16 || op == Op::Response as u16, "{header:?}"),
        }
    }

    /// Takes all that the device sends, which must be for this stream.
    pub fn take_all(&mut self, guest: &mut Guest) {
        while let Some((header, payload)) = guest.next() {
            self.take(guest, &header, &payload);
        }
    }
}

/// A stream that the guest opened to a listening port of the host.
pub fn guest_opens(guest: &mut Guest, host_port: u32, guest_port: u32) -> (Peer, UnixStream) {
    let mut peer = Peer::new(Ports { host: host_port, guest: guest_port });
    peer.say(guest, Op::Request);
    let (response, _) = guest.expect(Op::Response);
    peer.take(guest, &response, &[]);
    let stream = guest.listeners[&host_port].try_recv().unwrap();
    (peer, stream)
}

/// A stream that the host opened and the guest accepted.
pub fn host_opens(guest: &mut Guest, guest_port: u32) -> (Peer, UnixStream) {
    let (stream, far) = UnixStream::pair().unwrap();
    guest.handle.connect(guest_port, far).unwrap();
    let (request, _) = guest.expect(Op::Request);
    assert_eq!((request.src_cid, request.dst_port), (HOST_CID, guest_port));
    let mut peer = Peer::new(Ports { host: request.src_port, guest: guest_port });
    peer.device = request.credit;
    peer.say(guest, Op::Response);
    guest.settle();
    (peer, stream)
}
