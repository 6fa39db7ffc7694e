//! Requests of a back end that is gone: each is answered with an error.
//!
//! The back end has served its queues in order, one request after the other (it is run without a pool of threads): what
//! it has not returned are the chains from the used ring's index on.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
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
    let broken = |_| DeviceError::Chain { reason: "a request outside of memory" };
    let mut writer = chain.clone().writer(memory).map_err(broken)?;
    let length = size_of::<OutHeader>();
    if writer.available_bytes() < length {
        return Ok(Served::Now(0));
    }
    let mut request = InHeader::new_zeroed();
    let mut reader = chain.reader(memory).map_err(broken)?;
    let short = |_| DeviceError::Chain { reason: "a request that is shorter than its header" };
    reader.read_exact(request.as_mut_bytes()).map_err(short)?;
    let length = u32::try_from(length).expect("16");
    let answer = OutHeader { len: length.into(), error: (-libc::ENOTCONN).into(), unique: request.unique };
    writer.write_all(answer.as_bytes()).map_err(short)?;
    Ok(Served::Now(length))
}
