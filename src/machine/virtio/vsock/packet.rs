//! One packet: from a chain of guest buffers to a checked [`Packet`], and from a [`Header`] into guest buffers.
//!
//! Enters: chains of the transmit and the receive queue, hostile in every byte. Leaves: types that cannot hold what the
//! protocol forbids. The header is copied once into our own memory and judged there; the payload stays where it is.
//! Must never know which connections exist.
//!
//! The payload may be spread over any number of descriptors (VIRTIO 1.2, section 2.7.4: no assumption about their
//! arrangement): Linux does so for zero-copy sends, and since 6.17 for every send above 32 KiB.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;

use vm_memory::{
    GuestMemory, GuestMemoryMmap, Permissions, VolatileMemoryError, VolatileSlice, WriteVolatile,
};

use super::header::{Credit, GUEST_CID, HEADER_LEN, HOST_CID, Header, Op, Ports, Shut, TYPE_STREAM};
use crate::machine::virtio::{Chain, DeviceError};

/// The longest payload taken in one packet: `VIRTIO_VSOCK_MAX_PKT_BUF_SIZE` of Linux.
pub const MAX_PAYLOAD: u32 = 64 * 1024;
/// Pieces of memory that one packet may consist of; Linux uses at most 19 (header and `MAX_SKB_FRAGS` + 1).
const MAX_PIECES: usize = 64;

/// A checked packet of the guest.
#[derive(Debug)]
pub struct Packet<'m> {
    /// The connection that it belongs to, or would.
    pub ports: Ports,
    /// The guest's receive buffer.
    pub credit: Credit,
    /// What it says.
    pub message: Message<'m>,
}

/// What a packet of the guest says.
#[derive(Debug)]
pub enum Message<'m> {
    /// Connect to the host's port.
    Request,
    /// The host's request is accepted.
    Response,
    /// The connection is gone, or never was.
    Reset,
    /// No more in the directions named.
    Shutdown(Shut),
    /// Bytes of the stream, at most [`MAX_PAYLOAD`].
    Data(Payload<'m>),
    /// Only the credit.
    CreditUpdate,
    /// A credit update is wanted.
    CreditRequest,
}

/// What became of a chain of the transmit queue.
#[derive(Debug)]
pub enum Parsed<'m> {
    /// A packet.
    Packet(Packet<'m>),
    /// Not a packet, but it has a sender: the reset to answer with.
    Refused(Header),
    /// Nothing that could be answered.
    Malformed,
}

/// Reads and judges one chain of the transmit queue.
///
/// # Errors
/// It is no chain.
pub fn parse<'m>(memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<Parsed<'m>, DeviceError> {
    Ok(match pieces(memory, chain, Access::DeviceReads)? {
        Some(pieces) => judge(pieces),
        None => Parsed::Malformed,
    })
}

fn judge(mut pieces: Vec<VolatileSlice<'_>>) -> Parsed<'_> {
    let mut header = [0; HEADER_LEN];
    let Some(split) = walk_header(&pieces, |piece, at| piece.copy_to(&mut header[at..])) else {
        return Parsed::Malformed;
    };
    let header = Header::decode(&header);
    // A reset is never answered by a reset, and a packet in another's name not at all.
    if header.src_cid != GUEST_CID {
        return Parsed::Malformed;
    }
    let is_reset = header.op == Op::Rst as u16;
    let refuse = || if is_reset { Parsed::Malformed } else { Parsed::Refused(Header::refusal_of(&header)) };
    if header.dst_cid != HOST_CID || header.kind != TYPE_STREAM || header.len > MAX_PAYLOAD {
        return refuse();
    }
    let payload = match split.payload(&mut pieces, header.len) {
        Some(payload) => payload,
        None => return refuse(),
    };
    let message = match header.op {
        op if op == Op::Rw as u16 => Message::Data(payload),
        _ if header.len != 0 => return refuse(),
        op if op == Op::Request as u16 => Message::Request,
        op if op == Op::Response as u16 => Message::Response,
        op if op == Op::Rst as u16 => Message::Reset,
        op if op == Op::Shutdown as u16 => Message::Shutdown(Shut::from_bits(header.flags)),
        op if op == Op::CreditUpdate as u16 => Message::CreditUpdate,
        op if op == Op::CreditRequest as u16 => Message::CreditRequest,
        _ => return refuse(),
    };
    let ports = Ports { host: header.dst_port, guest: header.src_port };
    Parsed::Packet(Packet { ports, credit: header.credit, message })
}

/// The bytes of one packet, still in guest memory, which the guest may change at any time.
#[derive(Debug)]
pub struct Payload<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl Payload<'_> {
    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes what the socket takes now and forgets it. An error is the stream's end.
    pub fn write_to(&mut self, mut socket: &UnixStream) -> io::Result<usize> {
        let before = self.len;
        while let Some(piece) = self.pieces.first_mut() {
            match volatile(socket.write_volatile(piece)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.len -= count;
                    *piece = piece.offset(count).map_err(io::Error::other)?;
                    if piece.is_empty() {
                        self.pieces.remove(0);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(before - self.len)
    }

    /// Appends what is left to `bytes`.
    pub fn append_to(&self, bytes: &mut VecDeque<u8>) {
        let mut chunk = [0; 4096];
        for piece in &self.pieces {
            let mut at = 0;
            while let Ok(rest) = piece.offset(at)
                && !rest.is_empty()
            {
                let count = rest.copy_to(&mut chunk);
                bytes.extend(&chunk[..count]);
                at += count;
            }
        }
    }
}

/// One chain of the receive queue: room for a header and some payload.
#[derive(Debug)]
pub struct Room<'m> {
    header: Vec<VolatileSlice<'m>>,
    payload: VolatileSlice<'m>,
}

impl<'m> Room<'m> {
    /// Checks the chain; `None` when a header and one byte do not fit, which is the least that a driver must offer.
    ///
    /// # Errors
    /// It is no chain.
    pub fn parse(memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<Option<Self>, DeviceError> {
        Ok(pieces(memory, chain, Access::DeviceWrites)?.and_then(Self::of))
    }

    fn of(mut pieces: Vec<VolatileSlice<'m>>) -> Option<Self> {
        let split = walk_header(&pieces, |piece, at| piece.len().min(HEADER_LEN - at))?;
        let border = *pieces.get(split.piece)?;
        let payload = match border.offset(split.offset).ok().filter(|rest| !rest.is_empty()) {
            Some(rest) => rest,
            // Later pieces are left unused: a stream does not care how it is cut.
            None => *pieces.get(split.piece + 1)?,
        };
        pieces.truncate(split.piece + 1);
        Some(Self { header: pieces, payload })
    }

    /// Where payload goes; never empty.
    pub fn payload(&self) -> &VolatileSlice<'m> {
        &self.payload
    }

    /// Writes the header before the payload. Returns the number of bytes used.
    pub fn finish(self, header: &Header) -> u32 {
        let bytes = header.encode();
        let mut at = 0;
        for piece in &self.header {
            let count = piece.len().min(HEADER_LEN - at);
            piece.copy_from(&bytes[at..at + count]);
            at += count;
        }
        u32::try_from(HEADER_LEN).expect("44 fits") + header.len
    }
}

/// What the device does with a chain's buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    DeviceReads,
    DeviceWrites,
}

/// All memory of a chain. None when a buffer is of the other direction, outside memory, or there are too many.
fn pieces<'m>(
    memory: &'m GuestMemoryMmap,
    chain: Chain<'m>,
    access: Access,
) -> Result<Option<Vec<VolatileSlice<'m>>>, DeviceError> {
    let mut pieces = Vec::with_capacity(2);
    let permissions = match access {
        Access::DeviceReads => Permissions::Read,
        Access::DeviceWrites => Permissions::Write,
    };
    for descriptor in chain {
        let descriptor = descriptor?;
        if descriptor.is_write_only() != (access == Access::DeviceWrites) {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(descriptor.len()) else { return Ok(None) };
        if length == 0 {
            continue;
        }
        let Ok(found) = memory.get_slices(descriptor.addr(), length, permissions) else { return Ok(None) };
        for piece in found {
            match piece {
                Ok(piece) if pieces.len() < MAX_PIECES => pieces.push(piece),
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }
    Ok(Some(pieces))
}

/// Where the payload begins: so many bytes into that piece.
#[derive(Clone, Copy)]
struct Split {
    piece: usize,
    offset: usize,
}

/// Goes over the pieces until the header is complete; `visit` gets each and the header's offset at which it begins, and
/// says how many of its bytes are the header's. `None` when the pieces are shorter than a header.
fn walk_header(
    pieces: &[VolatileSlice<'_>],
    mut visit: impl FnMut(&VolatileSlice<'_>, usize) -> usize,
) -> Option<Split> {
    let mut at = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let taken = visit(piece, at);
        at += taken;
        if at == HEADER_LEN {
            return Some(Split { piece: index, offset: taken });
        }
    }
    None
}

impl Split {
    /// The first `len` bytes after the header. `None` when there are fewer.
    fn payload<'m>(self, pieces: &mut Vec<VolatileSlice<'m>>, len: u32) -> Option<Payload<'m>> {
        let len = usize::try_from(len).ok()?;
        pieces.drain(..self.piece);
        if let Some(border) = pieces.first_mut() {
            *border = border.offset(self.offset).ok()?;
        }
        let mut left = len;
        for piece in pieces.iter_mut() {
            if piece.len() > left {
                *piece = piece.subslice(0, left).ok()?;
            }
            left -= piece.len();
        }
        pieces.retain(|piece| !piece.is_empty());
        (left == 0).then(|| Payload { pieces: std::mem::take(pieces), len })
    }
}

/// vm-memory wraps the error of a system call.
pub fn volatile(result: Result<usize, VolatileMemoryError>) -> io::Result<usize> {
    result.map_err(|error| match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    })
}
