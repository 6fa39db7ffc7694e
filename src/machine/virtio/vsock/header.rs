//! The header of a packet as the specification has it: fields, numbers, bytes (VIRTIO 1.2, section 5.10.6).
//!
//! Enters and leaves: 44 bytes. Nothing is judged here. Must never know guest memory.

/// `VMADDR_CID_HOST`: the host's address (VIRTIO 1.2, section 5.10.4).
pub const HOST_CID: u64 = 2;
/// The guest's address, `guest_cid` in the configuration space. Every machine has its own device, so all have the same.
pub const GUEST_CID: u64 = 3;
/// Size of `struct virtio_vsock_hdr` (section 5.10.6).
pub const HEADER_LEN: usize = 44;
/// `VIRTIO_VSOCK_TYPE_STREAM` (section 5.10.6).
pub const TYPE_STREAM: u16 = 1;
/// Operations (section 5.10.6, `VIRTIO_VSOCK_OP_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// `VIRTIO_VSOCK_OP_REQUEST`
    Request = 1,
    /// `VIRTIO_VSOCK_OP_RESPONSE`
    Response = 2,
    /// `VIRTIO_VSOCK_OP_RST`
    Rst = 3,
    /// `VIRTIO_VSOCK_OP_SHUTDOWN`
    Shutdown = 4,
    /// `VIRTIO_VSOCK_OP_RW`
    Rw = 5,
    /// `VIRTIO_VSOCK_OP_CREDIT_UPDATE`
    CreditUpdate = 6,
    /// `VIRTIO_VSOCK_OP_CREDIT_REQUEST`
    CreditRequest = 7,
}

/// Flags of a shutdown (section 5.10.6.5). They are permanent: a side never takes one back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shut {
    /// `VIRTIO_VSOCK_SHUTDOWN_RCV` (bit 0): the sender of the packet receives no more.
    pub receive: bool,
    /// `VIRTIO_VSOCK_SHUTDOWN_SEND` (bit 1): the sender of the packet sends no more.
    pub send: bool,
}

impl Shut {
    /// As in the header's `flags`.
    pub fn bits(self) -> u32 {
        u32::from(self.receive) | (u32::from(self.send) << 1)
    }

    /// From the header's `flags`; other bits mean nothing.
    pub fn from_bits(bits: u32) -> Self {
        Self { receive: bits & 1 != 0, send: bits & 2 != 0 }
    }

    /// What either of the two says.
    pub fn or(self, other: Self) -> Self {
        Self { receive: self.receive || other.receive, send: self.send || other.send }
    }
}

/// What names a connection: its port on either side. (Both addresses are fixed.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Port on the host's side.
    pub host: u32,
    /// Port on the guest's side.
    pub guest: u32,
}

/// A side's receive buffer as it tells it to the other (section 5.10.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit {
    /// `buf_alloc`: size of the buffer in bytes.
    pub buf_alloc: u32,
    /// `fwd_cnt`: bytes that have left the buffer, modulo 2³².
    pub fwd_cnt: u32,
}

/// `struct virtio_vsock_hdr` (section 5.10.6): little-endian and packed on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `src_cid`
    pub src_cid: u64,
    /// `dst_cid`
    pub dst_cid: u64,
    /// `src_port`
    pub src_port: u32,
    /// `dst_port`
    pub dst_port: u32,
    /// `len`: bytes of payload.
    pub len: u32,
    /// `type`
    pub kind: u16,
    /// `op`
    pub op: u16,
    /// `flags`
    pub flags: u32,
    /// `buf_alloc` and `fwd_cnt`
    pub credit: Credit,
}

impl Header {
    /// A packet from the host to the guest, without flags and payload.
    pub fn to_guest(ports: Ports, op: Op, credit: Credit) -> Self {
        Self {
            src_cid: HOST_CID,
            dst_cid: GUEST_CID,
            src_port: ports.host,
            dst_port: ports.guest,
            len: 0,
            kind: TYPE_STREAM,
            // The discriminants are the wire's numbers.
            op: op as u16,
            flags: 0,
            credit,
        }
    }

    /// The answer to a packet that belongs to no connection: a reset from where it was sent to.
    pub fn refusal_of(refused: &Self) -> Self {
        let ports = Ports { host: refused.dst_port, guest: refused.src_port };
        Self { src_cid: refused.dst_cid, ..Self::to_guest(ports, Op::Rst, Credit::default()) }
    }

    /// As on the wire.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&self.src_cid.to_le_bytes());
        put(&self.dst_cid.to_le_bytes());
        put(&self.src_port.to_le_bytes());
        put(&self.dst_port.to_le_bytes());
        put(&self.len.to_le_bytes());
        put(&self.kind.to_le_bytes());
        put(&self.op.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&self.credit.buf_alloc.to_le_bytes());
        put(&self.credit.fwd_cnt.to_le_bytes());
        bytes
    }

    /// From the wire; nothing is judged.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | (u32::from(u16_at(at + 2)) << 16);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        Self {
            src_cid: u64_at(0),
            dst_cid: u64_at(8),
            src_port: u32_at(16),
            dst_port: u32_at(20),
            len: u32_at(24),
            kind: u16_at(28),
            op: u16_at(30),
            flags: u32_at(32),
            credit: Credit { buf_alloc: u32_at(36), fwd_cnt: u32_at(40) },
        }
    }
}
