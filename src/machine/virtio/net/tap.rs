//! The tap as system calls: one frame in, one frame out, and what the guest can take.
#![allow(unsafe_code)] // ioctls, and system calls on guest memory

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6, TUNSETOFFLOAD};
use nix::errno::Errno;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
};

use super::super::vector::Vector;

/// What a tap is told for each feature of the guest (`TUN_F_*` of linux/if_tun.h).
const OFFLOADS: [(u32, libc::c_uint); 4] = [
    (VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM),
    (VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4),
    (VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6),
    (VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN),
];

/// One queue of a tap.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    /// As the kernel was told last; of a new tap, none.
    offloads: libc::c_uint,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes, with the header.
    Bytes(usize),
    /// None now.
    None,
    /// None ever again.
    Gone,
}

impl Tap {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, offloads: 0 }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether this kernel's taps know segments of UDP. They are not asked for yet.
    pub fn has_udp_segments(&self) -> bool {
        let has = self.set_offload(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6).is_ok();
        has && self.set_offload(0).is_ok()
    }

    /// The tap gives only frames that a driver with these features takes.
    pub fn offload(&mut self, features: u64) -> io::Result<()> {
        let has = |feature: u32| features & 1 << feature != 0;
        let mut flags =
            OFFLOADS.iter().filter(|(feature, _)| has(*feature)).fold(0, |all, (_, flag)| all | flag);
        // The kernel knows the two only together.
        if has(VIRTIO_NET_F_GUEST_USO4) && has(VIRTIO_NET_F_GUEST_USO6) {
            flags |= TUN_F_USO4 | TUN_F_USO6;
        }
        // Without checksums there can be no segments: a driver that asks for them alone gets neither.
        let flags = if flags & TUN_F_CSUM == 0 { 0 } else { flags };
        if flags != self.offloads {
            self.set_offload(flags)?;
            self.offloads = flags;
        }
        Ok(())
    }

    fn set_offload(&self, flags: libc::c_uint) -> io::Result<()> {
        // SAFETY: the argument of TUNSETOFFLOAD is a number.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
        Ok(Errno::result(result).map(drop)?)
    }

    /// Puts the next frame into these buffers, of which there must be at most `IOV_MAX`.
    pub fn read(&self, vectors: &[Vector]) -> io::Result<Frame> {
        let count = i32::try_from(vectors.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: `Vector` is an iovec, and each names guest memory that is mapped: see there.
        let result = unsafe { libc::readv(self.fd.as_raw_fd(), vectors.as_ptr().cast(), count) };
        match Errno::result(result) {
            Ok(count) => Ok(Frame::Bytes(usize::try_from(count).unwrap_or(0))),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Frame::None),
            // The interface was deleted, or is down.
            Err(Errno::EBADFD | Errno::EIO) => Ok(Frame::Gone),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends one frame. A frame that the host does not take is lost, as on any network.
    pub fn write(&self, vectors: &[Vector]) {
        let Ok(count) = i32::try_from(vectors.len()) else { return };
        // SAFETY: as above, and only read from.
        let _ = unsafe { libc::writev(self.fd.as_raw_fd(), vectors.as_ptr().cast(), count) };
    }
}
