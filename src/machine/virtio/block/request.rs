//! One request of the block driver, parsed: everything about it is checked here, before any effect.
//!
//! Source: VIRTIO 1.2, section 5.2.6 (`struct virtio_blk_req`). The driver may cut a request into buffers as it likes
//! (section 2.7.4): the header is the first 16 readable bytes, the status the last writable one.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use super::super::{Chain, DeviceError};

/// Bytes of a sector, whatever the block size (section 5.2.4).
pub const SECTOR: u64 = 512;
/// Data buffers of a request, announced as `seg_max`.
pub const MAX_SEGMENTS: u32 = 254;
/// So many discarded bytes count as one that is moved: a block of 4 KiB for each MiB.
const DISCARDED: u64 = 256;
/// Sectors of one discard or zeroing range, announced: 1 GiB.
pub const MAX_RANGE_SECTORS: u32 = 1 << 21;
/// Bytes of `type`, `reserved` and `sector`.
const HEADER: usize = 16;
/// Bytes of `struct virtio_blk_discard_write_zeroes`; one per request, as announced.
const RANGE: usize = 16;

/// What the device is to do. Offsets and lengths are bytes, multiples of 512 and inside the disk.
#[derive(Debug)]
pub enum Action<'m> {
    /// Fill the buffers from the disk.
    Read {
        /// Where on the disk.
        offset: u64,
        /// Guest memory to be written.
        buffers: Vec<VolatileSlice<'m>>,
    },
    /// Write the buffers to the disk.
    Write {
        /// Where on the disk.
        offset: u64,
        /// Guest memory to be read.
        buffers: Vec<VolatileSlice<'m>>,
    },
    /// Make all that was written durable.
    Flush,
    /// Put the device's name there.
    Id {
        /// Guest memory to be written, 20 bytes.
        buffers: Vec<VolatileSlice<'m>>,
    },
    /// Forget a range.
    Discard {
        /// Where on the disk.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Zero a range.
    WriteZeroes {
        /// Where on the disk.
        offset: u64,
        /// How much.
        length: u64,
        /// Its place may be given back.
        unmap: bool,
    },
    /// Nothing: the answer is known already (`VIRTIO_BLK_S_IOERR` or `_UNSUPP`).
    Answer(u32),
}

/// A parsed request: what to do, and where the answer goes.
#[derive(Debug)]
pub struct Request<'m> {
    /// What to do.
    pub action: Action<'m>,
    /// Where the status byte goes; in guest memory.
    pub status: GuestAddress,
    /// Bytes that the device writes when it succeeds, the status included.
    pub writable: u32,
}

/// What the device can do, against which a request is checked.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of the disk.
    pub sectors: u64,
    /// No request that changes the disk.
    pub read_only: bool,
}

/// Guest buffers, in order.
type Parts<'m> = Vec<VolatileSlice<'m>>;

impl Action<'_> {
    /// What it counts for a limit: what is moved. Zeros that the driver leaves to us are as many as if it had sent them. What is
    /// given back costs the host's file system its own notes of it, which are not more than this.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Read { buffers, .. } | Self::Write { buffers, .. } | Self::Id { buffers } => {
                let bytes: usize = buffers.iter().map(VolatileSlice::len).sum();
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Self::WriteZeroes { length, .. } => *length,
            Self::Discard { length, .. } => *length / DISCARDED,
            Self::Flush | Self::Answer(_) => 0,
        }
    }
}

impl<'m> Request<'m> {
    /// Parses a chain. An error is a chain that cannot even be answered.
    pub fn parse(memory: &'m GuestMemoryMmap, chain: Chain<'m>, limits: Limits) -> Result<Self, DeviceError> {
        let broken = |reason| DeviceError::Chain { reason };
        let (mut readable, mut writable) = (Parts::new(), Parts::new());
        let mut status = None;
        let mut outside = false;
        let mut count = 0;
        for descriptor in chain {
            let descriptor = descriptor?;
            count += 1;
            // Two more than segments: the header's and the status's own.
            if count > MAX_SEGMENTS + 2 {
                return Err(broken("more buffers than announced"));
            }
            let length = usize::try_from(descriptor.len()).map_err(|_| broken("an impossible length"))?;
            if length == 0 {
                return Err(broken("an empty buffer"));
            }
            if !descriptor.is_write_only() && status.is_some() {
                return Err(broken("a readable buffer behind a writable one"));
            }
            if descriptor.is_write_only() {
                status = descriptor.addr().0.checked_add(u64::from(descriptor.len()) - 1).map(GuestAddress);
            }
            let parts = if descriptor.is_write_only() { &mut writable } else { &mut readable };
            for slice in memory.get_slices(descriptor.addr(), length) {
                match slice {
                    Ok(slice) => parts.push(slice),
                    Err(_) => outside = true,
                }
            }
        }
        let status = status.ok_or_else(|| broken("no place for the status"))?;
        if memory.to_region_addr(status).is_none() {
            return Err(broken("a status outside of memory"));
        }
        if outside {
            return Ok(Self { action: Action::Answer(VIRTIO_BLK_S_IOERR), status, writable: 1 });
        }
        let header = take(&mut readable, HEADER).ok_or_else(|| broken("a header that is too short"))?;
        shorten(&mut writable).ok_or_else(|| broken("no place for the status"))?;
        let length = total(&writable);
        let action = Action::parse(&header, readable, writable, limits);
        let written = if matches!(action, Action::Read { .. } | Action::Id { .. }) { length } else { 0 };
        let writable = u32::try_from(written + 1).map_err(|_| broken("more than 4 GiB"))?;
        Ok(Self { action, status, writable })
    }
}

impl<'m> Action<'m> {
    fn parse(header: &[u8], readable: Parts<'m>, writable: Parts<'m>, limits: Limits) -> Self {
        let (kind, sector) = (number(&header[..4]), number(&header[8..16]));
        let failed = Self::Answer(VIRTIO_BLK_S_IOERR);
        let unsupported = Self::Answer(VIRTIO_BLK_S_UNSUPP);
        let Ok(kind) = u32::try_from(kind) else { return unsupported };
        match kind {
            VIRTIO_BLK_T_IN => match range(sector, total(&writable), limits) {
                Some((offset, _)) if readable.is_empty() => Self::Read { offset, buffers: writable },
                _ => failed,
            },
            // Section 5.2.6.2: a read-only device answers IOERR.
            VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if limits.read_only => failed,
            VIRTIO_BLK_T_OUT => match range(sector, total(&readable), limits) {
                Some((offset, _)) if writable.is_empty() => Self::Write { offset, buffers: readable },
                _ => failed,
            },
            VIRTIO_BLK_T_FLUSH => Self::Flush,
            VIRTIO_BLK_T_GET_ID if total(&writable) == u64::from(VIRTIO_BLK_ID_BYTES) => {
                Self::Id { buffers: writable }
            }
            VIRTIO_BLK_T_GET_ID => failed,
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => Self::parse_range(kind, readable, limits),
            _ => unsupported,
        }
    }

    /// `struct virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
    fn parse_range(kind: u32, mut readable: Parts<'m>, limits: Limits) -> Self {
        let failed = Self::Answer(VIRTIO_BLK_S_IOERR);
        let Some(bytes) = take(&mut readable, RANGE).filter(|_| readable.is_empty()) else {
            return failed;
        };
        let (sector, sectors, flags) = (number(&bytes[..8]), number(&bytes[8..12]), number(&bytes[12..16]));
        let unmap = u64::from(VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
        // Section 5.2.6.2: unknown flags, and unmap in a discard, are answered by UNSUPP.
        if flags & !unmap != 0 || (kind == VIRTIO_BLK_T_DISCARD && flags != 0) {
            return Self::Answer(VIRTIO_BLK_S_UNSUPP);
        }
        if sectors > u64::from(MAX_RANGE_SECTORS) {
            return failed;
        }
        match range(sector, sectors * SECTOR, limits) {
            Some((offset, length)) if kind == VIRTIO_BLK_T_DISCARD => Self::Discard { offset, length },
            Some((offset, length)) => Self::WriteZeroes { offset, length, unmap: flags & unmap != 0 },
            None => failed,
        }
    }
}

/// Offset and length in bytes, when they are whole sectors of the disk, and not none.
fn range(sector: u64, length: u64, limits: Limits) -> Option<(u64, u64)> {
    let sectors = length / SECTOR;
    let end = sector.checked_add(sectors)?;
    // The product is formed only of a sector that the disk has: any other may be too large for it.
    (length > 0 && length.is_multiple_of(SECTOR) && end <= limits.sectors).then(|| (sector * SECTOR, length))
}

fn total(parts: &[VolatileSlice<'_>]) -> u64 {
    parts.iter().map(|part| u64::try_from(part.len()).expect("a length of a mapping")).sum()
}

fn number(bytes: &[u8]) -> u64 {
    let mut value = [0; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(value)
}

/// Copies the first `length` bytes (at most 16) out of the buffers, once: the guest may change them at any time.
fn take(parts: &mut Parts<'_>, length: usize) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < length {
        let part = *parts.first()?;
        let count = part.len().min(length - filled);
        part.read_slice(&mut bytes[filled..filled + count], 0).ok()?;
        filled += count;
        if count == part.len() {
            parts.remove(0);
        } else {
            parts[0] = part.offset(count).ok()?;
        }
    }
    Some(bytes)
}

/// Takes the last byte off: the status.
fn shorten(parts: &mut Parts<'_>) -> Option<()> {
    let last = parts.pop()?;
    if last.len() > 1 {
        parts.push(last.subslice(0, last.len() - 1).ok()?);
    }
    Some(())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
