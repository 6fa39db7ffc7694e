//! The lists.

use std::collections::BTreeMap;

use libc::c_long;

use super::Kind;

/// With which arguments a call is made. Of each argument the lower half is looked at: the kernel does so too with requests,
/// commands, advice, kinds of sockets, lengths of addresses and pids, and no bit of the upper half makes memory executable.
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
    /// Each of these, by its number, has that value.
    Each(Vec<(u8, u32)>),
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
    // Bytes.
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_write,
    libc::SYS_writev,
    // What a device begins with, at the driver's word (vCPU), and ends with: there, when it gives up (device) or is taken
    // away (main).
    libc::SYS_epoll_ctl,
    libc::SYS_io_uring_enter,
    libc::SYS_shutdown,
];

/// What a composition is: its tables, looked up in its file, and whether a layer's file is still the one that was composed.
/// Paths lead nowhere: the root is empty.
const FILES: &[c_long] = &[libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_pread64, libc::SYS_statx];

/// What only the device thread does.
const DEVICE: &[c_long] = &[
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_fdatasync,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    // A frame of the tap.
    libc::SYS_readv,
    // When a device that is held to a limit may go on.
    libc::SYS_timerfd_settime,
];

/// What only the main thread does.
const MAIN: &[c_long] = &[
    // Whether what came with an order is a stream of the local kind.
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    // A disk's size.
    libc::SYS_lseek,
    // What a device has that is put into a slot: of its limits, and of what the host's kernel tells of its queues.
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
];

/// Linux: include/uapi/linux/kvm.h. Of a processor; nothing is asked of its machine any more (`vcpu::Processor`).
const KVM: &[u32] = &[
    0xae80, // KVM_RUN
    // When it stood still: other architectures' guests ask another clock.
    #[cfg(target_arch = "x86_64")]
    0xaead, // KVM_KVMCLOCK_CTRL
];
/// Linux: include/uapi/linux/vhost.h. How a device begins (`net::vhost::Vhost::start`).
const VHOST: [u32; 10] = [
    0x8008_af00, // VHOST_GET_FEATURES
    0x4008_af00, // VHOST_SET_FEATURES
    0xaf01,      // VHOST_SET_OWNER
    0x4008_af03, // VHOST_SET_MEM_TABLE
    0x4008_af10, // VHOST_SET_VRING_NUM
    0x4028_af11, // VHOST_SET_VRING_ADDR
    0x4008_af12, // VHOST_SET_VRING_BASE
    0x4008_af20, // VHOST_SET_VRING_KICK
    0x4008_af21, // VHOST_SET_VRING_CALL
    0x4008_af22, // VHOST_SET_VRING_ERR
];
/// And how it ends (the drop of a `Vhost`), in whichever thread ends it. The first of them also gives a queue its tap, the last
/// step of a beginning.
const VHOST_END: [u32; 2] = [
    0x4008_af30, // VHOST_NET_SET_BACKEND
    0xaf02,      // VHOST_RESET_OWNER
];
/// Linux: include/uapi/linux/if_tun.h. What a tap's frames may be left with (`net::tap`).
const TUNSETOFFLOAD: u32 = 0x4004_54d0;

fn requests(kind: Kind) -> Vec<u32> {
    let fionbio = u32::try_from(libc::FIONBIO).expect("requests have 32 bits");
    let own: &[u32] = match kind {
        Kind::Vcpu => &[KVM, &[TUNSETOFFLOAD], &VHOST[..]].concat(),
        // Streams of the guest, and to it.
        Kind::Device => &[fionbio],
        // A tap is asked for what it can, and told at the driver's word.
        Kind::Main => &[fionbio, TUNSETOFFLOAD],
    };
    [own, &VHOST_END].concat()
}

/// What becomes of memory. Not that it is shared with who has the same (`MADV_MERGEABLE`): the time of a write tells then what
/// others have.
fn advice(kind: Kind) -> Vec<u32> {
    // A thread that ends gives its stack back, an allocator what is free; in large pages it wants it where glibc's tunable
    // `glibc.malloc.hugetlb` is in the caller's environment.
    let mut advice = vec![libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_HUGEPAGE];
    if kind == Kind::Device {
        // The balloon: memory that the file systems' back end has as well.
        advice.push(libc::MADV_REMOVE);
    }
    advice.into_iter().map(i32::cast_unsigned).collect()
}

/// What a kind may call, by number, and with what.
pub(super) fn of(kind: Kind) -> BTreeMap<c_long, Allowed> {
    let own = match kind {
        Kind::Vcpu => [&[][..], &[]],
        Kind::Device => [DEVICE, FILES],
        Kind::Main => [MAIN, FILES],
    };
    let mut calls: BTreeMap<c_long, Allowed> =
        ALL.iter().chain(own.into_iter().flatten()).map(|call| (*call, Allowed::Always)).collect();
    let not_executed = Allowed::Without { argument: 2, bits: libc::PROT_EXEC.cast_unsigned() };
    let one = |argument: u8, value: i32| Allowed::OneOf { argument, values: vec![value.cast_unsigned()] };
    // A second descriptor of the same; and a program that is built with assertions asks of one that it closes whether it is open.
    let commands = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD].map(i32::cast_unsigned);
    calls.extend([
        (libc::SYS_mmap, not_executed.clone()),
        (libc::SYS_mprotect, not_executed),
        // A move of what is not executable.
        (libc::SYS_mremap, Allowed::Always),
        (libc::SYS_ioctl, Allowed::OneOf { argument: 1, values: requests(kind) }),
        (libc::SYS_madvise, Allowed::OneOf { argument: 2, values: advice(kind) }),
        // To the other end: no address.
        (libc::SYS_sendto, one(5, 0)),
        (libc::SYS_fcntl, Allowed::OneOf { argument: 1, values: commands.to_vec() }),
        // Itself: within walls it is the first process of its namespace.
        (libc::SYS_tgkill, one(0, 1)),
    ]);
    if kind == Kind::Device {
        // A stream that the guest opens, whose other end is handed on. Not of datagrams: those could be sent to any name in
        // the network namespace.
        let stream = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let pair =
            [(0, libc::AF_UNIX), (1, stream)].map(|(argument, value)| (argument, value.cast_unsigned()));
        calls.insert(libc::SYS_socketpair, Allowed::Each(pair.to_vec()));
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
