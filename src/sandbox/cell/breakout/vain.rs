//! What some kinds of threads may call, and what becomes of it.

use nix::{
    errno::Errno,
    libc::{self, c_long},
};

use super::{ABSTRACT, Attempt, HERE, HOSTS, Held, KINDS, NULL, ROOM, requests::To};
use crate::machine::Kind;

/// Needed for an attempt beside what is everywhere, the kinds that may try (the others are ended), and what they are told.
type Row = (&'static str, Option<To>, &'static [Kind], &'static str, Attempt);

/// Each.
pub(super) const IN_VAIN: &[Row] = &[
    ("the host's names", None, &[Kind::Device, Kind::Main], "ENOENT", |_| {
        call!(SYS_statx, HERE, HOSTS, 0, 0, [0_u64; 32].as_ptr())
    }),
    ("the host's names, as before", None, &[Kind::Device, Kind::Main], "ENOENT", |_| {
        call!(SYS_newfstatat, HERE, HOSTS, [0_u64; 32].as_ptr(), 0)
    }),
    ("more descriptors than it may have", None, &KINDS, "EINVAL", |held| {
        call!(SYS_fcntl, held.file, libc::F_DUPFD_CLOEXEC, 1 << 20)
    }),
    ("a longer file", None, &[Kind::Device], "EFBIG", |held| {
        let vector = [HOSTS.addr(), 1];
        call!(SYS_pwritev2, held.file, vector.as_ptr(), 1, ROOM, 0, 0)
    }),
    ("a longer file, at its end", None, &KINDS, "EFBIG", |held| {
        // It was left at its end.
        call!(SYS_write, held.file, HOSTS, 1)
    }),
    ("what it may only read", None, &KINDS, "EBADF", |held| call!(SYS_write, held.program, HOSTS, 1)),
    ("holes in what it may only read", None, &[Kind::Device], "EBADF", |held| {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        call!(SYS_fallocate, held.program, mode, 0_u64, ROOM)
    }),
    ("a thread of another", None, &KINDS, "ESRCH", |_| call!(SYS_tgkill, 1, 2, 9)),
    ("a stream's bytes to a name", None, &KINDS, "EISCONN", |held| {
        let vector = [HOSTS.addr(), 1];
        let message = [ABSTRACT.as_ptr().addr(), ABSTRACT.len(), vector.as_ptr().addr(), 1, 0, 0, 0];
        call!(SYS_sendmsg, held.stream, message.as_ptr(), libc::MSG_NOSIGNAL)
    }),
    // A machine is its process's; the test's is another.
    ("a processor that was handed on", Some(To::Processor), &[Kind::Vcpu], "EIO", |held| {
        call!(SYS_ioctl, held.processor, 0xae80, NULL)
    }),
    ("to leave to a tap what there is not", Some(To::Tap), &[Kind::Vcpu, Kind::Main], "EINVAL", |held| {
        call!(SYS_ioctl, held.tap, 0x4004_54d0, u64::from(u32::MAX))
    }),
    // So is the kernel's device for a tap, once it is anybody's.
    ("to own what another owns", Some(To::Vhost), &[Kind::Vcpu], "EBUSY", |held| {
        call!(SYS_ioctl, held.vhost, VHOST_SET_OWNER, NULL)
    }),
    ("to give another's memory", Some(To::Vhost), &[Kind::Vcpu], "EPERM", |held| {
        call!(SYS_ioctl, held.vhost, VHOST_SET_MEM_TABLE, NO_MEMORY.as_ptr())
    }),
    ("to stop another's queue", Some(To::Vhost), &KINDS, "EPERM", |held| {
        call!(SYS_ioctl, held.vhost, VHOST_NET_SET_BACKEND, [0, -1].as_ptr())
    }),
    ("to take from another", Some(To::Vhost), &KINDS, "EPERM", |held| {
        call!(SYS_ioctl, held.vhost, VHOST_RESET_OWNER, NULL)
    }),
    // With one of its own.
    ("what is no tap, for a queue", Some(To::Vhost), &[Kind::Vcpu], "ENOTSOCK", |held| {
        begin_queue(held, &NO_MEMORY, held.file)
    }),
    ("a socket that is no tap's, for a queue", Some(To::Vhost), &[Kind::Vcpu], "ENOTSOCK", |held| {
        begin_queue(held, &NO_MEMORY, held.stream)
    }),
    ("the kernel's memory, for a queue", Some(To::Vhost), &[Kind::Vcpu], "EFAULT", |held| {
        begin_queue(held, &MEMORY_OF_THE_KERNEL, held.file)
    }),
];

/// linux/vhost.h
const VHOST_SET_OWNER: u64 = 0xaf01;
const VHOST_RESET_OWNER: u64 = 0xaf02;
const VHOST_SET_MEM_TABLE: u64 = 0x4008_af03;
const VHOST_NET_SET_BACKEND: u64 = 0x4008_af30;
/// `struct vhost_memory` without a region, and with one: 4096 bytes of the guest's at 0, where the kernel has its own.
const NO_MEMORY: [u64; 1] = [0];
const MEMORY_OF_THE_KERNEL: [u64; 5] = [1, 0, 4096, 0xffff_8000_0000_0000, 0];

/// What is said to a network for the first queue of a device that has no owner before and after.
fn begin_queue(held: &Held, memory: &[u64], network: i32) -> c_long {
    if call!(SYS_ioctl, held.vhost_of_nobody, VHOST_SET_OWNER, NULL) != 0 {
        return -1;
    }
    let told = if call!(SYS_ioctl, held.vhost_of_nobody, VHOST_SET_MEM_TABLE, memory.as_ptr()) == 0 {
        call!(SYS_ioctl, held.vhost_of_nobody, VHOST_NET_SET_BACKEND, [0, network].as_ptr())
    } else {
        // Taken for done, which it is not to be.
        0
    };
    let why = Errno::last_raw();
    let _ = call!(SYS_ioctl, held.vhost_of_nobody, VHOST_RESET_OWNER, NULL);
    Errno::set_raw(why);
    told
}
