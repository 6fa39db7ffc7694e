//! Requests of a back end that is gone: each is answered with an error.
//!
//! The back end has served its queues in order, one request after the other (it is run without a pool of threads): what
//! it has not returned are the chains from the used ring's index on.

use std::sync::atomic::Ordering;

use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestMemoryMmap};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, byteorder::little_endian as le};

use crate::machine::virtio::worker::Served;
use crate::machine::virtio::{Chain, DeviceError, DeviceQueue};

/// `struct fuse_in_header` (linux/fuse.h), what begins every request.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct InHeader {
    len: le::U32,
    opcode: le::U32,
    unique: le::U64,
    nodeid: le::U64,
    uid: le::U32,
    gid: le::U32,
    pid: le::U32,
    total_extlen: le::U16,
    padding: le::U16,
}

/// `struct fuse_out_header` (linux/fuse.h), what begins every answer.
#[derive(Debug, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct OutHeader {
    len: le::U32,
    error: le::I32,
    unique: le::U64,
}

/// Makes a queue this process's, from the first chain that the back end did not return.
pub(super) fn take_over(queue: &mut DeviceQueue, memory: &GuestMemoryMmap) -> Result<(), DeviceError> {
    let broken = |source| DeviceError::Queue { queue: 0, source };
    let used = queue.queue.used_idx(memory, Ordering::Acquire).map_err(broken)?.0;
    queue.queue.set_next_avail(used);
    queue.queue.set_next_used(used);
    Ok(())
}

/// Answers one request: the file system is not connected. One without room for an answer (forget) wants none.
pub(super) fn refuse(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<Served, DeviceError> {
    let outside = |_| DeviceError::Chain { reason: "a request outside of memory" };
    let (mut request, mut filled) = (InHeader::new_zeroed(), 0);
    let mut room = Vec::new();
    for buffer in chain {
        let buffer = buffer?;
        let length = usize::try_from(buffer.len()).unwrap_or(usize::MAX);
        if buffer.is_write_only() {
            room.push((buffer.addr(), length));
        } else {
            let header = &mut request.as_mut_bytes()[filled..];
            let count = length.min(header.len());
            if count > 0 {
                memory.read_slice(&mut header[..count], buffer.addr()).map_err(outside)?;
            }
            filled += count;
        }
    }
    let length = size_of::<OutHeader>();
    if room.iter().map(|(_, length)| length).sum::<usize>() < length {
        return Ok(Served::Now(0));
    }
    if filled < size_of::<InHeader>() {
        return Err(DeviceError::Chain { reason: "a request that is shorter than its header" });
    }
    let length = u32::try_from(length).expect("16");
    let answer = OutHeader { len: length.into(), error: (-libc::ENOTCONN).into(), unique: request.unique };
    let mut rest = answer.as_bytes();
    for (address, length) in room {
        if rest.is_empty() {
            break;
        }
        let (part, more) = rest.split_at(length.min(rest.len()));
        memory.write_slice(part, address).map_err(outside)?;
        rest = more;
    }
    Ok(Served::Now(length))
}
