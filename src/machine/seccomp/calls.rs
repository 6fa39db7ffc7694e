//! The lists.

use std::collections::BTreeMap;

use libc::c_long;

use super::Kind;

/// With which arguments a call is made. Of each argument the lower half is looked at: the kernel does so too with requests,
/// kinds of sockets and pids, and no bit of the upper half makes memory executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Any.
    Always,
    /// This one is one of these.
    OneOf {
        /// Which.
        argument: u8,
        /// Its values.
        values: Vec<u32>,
    },
    /// Of this one these bits are unset.
    Without {
        /// Which.
        argument: u8,
        /// None of them.
        bits: u32,
    },
}

/// What Rust's and C's run-time do in any thread: locks, time, its stack, the end; and what every kind does with descriptors
/// that it has.
const ALL: &[c_long] = &[
    // Memory: those that can make it executable are among the conditions.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_munmap,
    // Locks, time, turns.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    // Signals, and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // A thread names itself to interrupt another.
    libc::SYS_getpid,
    libc::SYS_gettid,
    // Seeds of hash maps, and the guest's entropy device.
    libc::SYS_getrandom,
    // Bytes; a composition's tables are looked up in its file.
    libc::SYS_close,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
    // What a device begins with, at the driver's word (vCPU), and ends with.
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_getsockopt,
    libc::SYS_io_uring_enter,
    libc::SYS_lseek,
    libc::SYS_shutdown,
    libc::SYS_timerfd_settime,
    // fstat and statx of an open file: the root is empty.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
];

/// What only the device thread does.
const DEVICE: &[c_long] = &[
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_fdatasync,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
];

/// What only the main thread does.
const MAIN: &[c_long] = &[
    // Whether what came with an order is a stream of the local kind.
    libc::SYS_getsockname,
    libc::SYS_timerfd_create,
];

/// Linux: include/uapi/linux/kvm.h.
const KVM_RUN: u32 = 0xae80;
const KVM_KVMCLOCK_CTRL: u32 = 0xaead;
/// Linux: include/uapi/linux/vhost.h.
const VHOST: [u32; 11] = [
    0x8008_af00, // VHOST_GET_FEATURES
    0x4008_af00, // VHOST_SET_FEATURES
    0xaf01,      // VHOST_SET_OWNER
    0xaf02,      // VHOST_RESET_OWNER
    0x4008_af03, // VHOST_SET_MEM_TABLE
    0x4008_af10, // VHOST_SET_VRING_NUM
    0x4028_af11, // VHOST_SET_VRING_ADDR
    0x4008_af12, // VHOST_SET_VRING_BASE
    0x4008_af20, // VHOST_SET_VRING_KICK
    0x4008_af21, // VHOST_SET_VRING_CALL
    0x4008_af22, // VHOST_SET_VRING_ERR
];
/// The same, of a network's queue.
const VHOST_NET_SET_BACKEND: u32 = 0x4008_af30;
/// Linux: include/uapi/linux/if_tun.h.
const TUNSETOFFLOAD: u32 = 0x4004_54d0;

fn requests(kind: Kind) -> Vec<u32> {
    let fionbio = u32::try_from(libc::FIONBIO).expect("requests have 32 bits");
    let mut requests = [&VHOST[..], &[VHOST_NET_SET_BACKEND, TUNSETOFFLOAD, fionbio]].concat();
    if kind == Kind::Vcpu {
        requests.extend([KVM_RUN, KVM_KVMCLOCK_CTRL]);
    }
    requests
}

/// What a kind may call, by number, and with what.
pub(super) fn of(kind: Kind) -> BTreeMap<c_long, Allowed> {
    let own = match kind {
        Kind::Vcpu => &[],
        Kind::Device => DEVICE,
        Kind::Main => MAIN,
    };
    let mut calls: BTreeMap<c_long, Allowed> =
        ALL.iter().chain(own).map(|call| (*call, Allowed::Always)).collect();
    let not_executed = Allowed::Without { argument: 2, bits: libc::PROT_EXEC.cast_unsigned() };
    let first = |value: u32| Allowed::OneOf { argument: 0, values: vec![value] };
    calls.extend([
        (libc::SYS_mmap, not_executed.clone()),
        (libc::SYS_mprotect, not_executed),
        // A move of what is not executable.
        (libc::SYS_mremap, Allowed::Always),
        (libc::SYS_ioctl, Allowed::OneOf { argument: 1, values: requests(kind) }),
        // Streams between two threads of ours.
        (libc::SYS_socketpair, first(libc::AF_UNIX.cast_unsigned())),
        // Itself: within walls it is the first process of its namespace.
        (libc::SYS_tgkill, first(1)),
    ]);
    if kind == Kind::Device {
        // A file's size stays as it is.
        let modes = [libc::FALLOC_FL_PUNCH_HOLE, libc::FALLOC_FL_ZERO_RANGE]
            .map(|mode| (mode | libc::FALLOC_FL_KEEP_SIZE).cast_unsigned());
        calls.insert(libc::SYS_fallocate, Allowed::OneOf { argument: 1, values: modes.to_vec() });
    }
    if kind == Kind::Main {
        // A disk that is put into a slot: whether another machine writes to it. Its lock is not given back while it is open:
        // without the lock, what is written is not brought back.
        let exclusive = (libc::LOCK_EX | libc::LOCK_NB).cast_unsigned();
        calls.insert(libc::SYS_flock, Allowed::OneOf { argument: 1, values: vec![exclusive] });
        // poll, of the descriptor that orders come from.
        calls.insert(libc::SYS_ppoll, Allowed::Always);
        #[cfg(target_arch = "x86_64")]
        calls.insert(libc::SYS_poll, Allowed::Always);
    }
    calls
}
