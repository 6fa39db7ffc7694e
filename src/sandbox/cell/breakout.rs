//! What a VMM that was broken into can still do: it is given its own cell, walls and the filter of each kind of its threads, and
//! tries. As root, which is who starts it.
//!
//! | it tries | walls alone | a thread's filter |
//! |---|---|---|
//! | the host's files, `/proc`, a file by its handle, a program | there is none, or no right to it | ends it |
//! | a program in memory or from an open descriptor, memory that is executed | – | ends it |
//! | other processes: signals, `ptrace`, their memory, pidfds | there are none | ends it |
//! | namespaces, mounts, another root or user, higher limits | no right | ends it |
//! | sockets: internet, packets, netlink, datagrams, names in the abstract | packets: no right; else – | ends it |
//! | `bpf`, `perf_event_open`, `userfaultfd`, keys, modules, io_uring, the clock, a restart | the last two: no right; else – | ends it |
//! | other requests and commands to descriptors that it has: KVM, tap, files | – | ends it |
//! | what its kind may call, on what is not there for it | refused | refused |
//!
//! Each attempt has a process of its own, which the kernel ends by SIGSYS or tells an error. "–": that is the filter's to hold.
#![allow(unsafe_code, reason = "processes to try it in, and system calls by number")]

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    libc::{self, c_long},
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};

use crate::{
    host::walls,
    machine::{Filters, Kind, Verdict},
};

/// Bytes of the longest file.
const ROOM: u64 = 4096;
/// What a child ends with that was let do it, and one that is not within walls.
const DONE: i32 = 200;
const NO_WALLS: i32 = 201;
const KINDS: [Kind; 3] = [Kind::Vcpu, Kind::Device, Kind::Main];

/// What it was given. KVM's may be missing: then it is the number of none.
struct Held {
    kvm: RawFd,
    vm: RawFd,
    tap: RawFd,
    file: RawFd,
    program: RawFd,
    stream: RawFd,
    namespace: RawFd,
}

type Attempt = fn(&Held) -> c_long;

/// What becomes of who does it: how it is ended, which error it gets, or "DONE".
fn tried(held: &Held, kept: &[BorrowedFd], kind: Option<Kind>, what: Attempt) -> String {
    let filters = Filters::new(Verdict::Kill);
    let child = walls::apart(|| {
        // SAFETY: the child allocates and calls the kernel alone, and ends by `_exit`.
        Ok(match unsafe { fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                // SAFETY: to ignore a signal runs nothing; it comes with an error.
                unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
                let within = walls::close_all_but(kept).is_ok()
                    && walls::enter(ROOM).is_ok()
                    && kind.is_none_or(|kind| filters.hold(kind).is_ok());
                let code = match within.then(|| what(held)) {
                    None => NO_WALLS,
                    Some(-1) => Errno::last_raw(),
                    Some(_) => DONE,
                };
                // SAFETY: it ends the process.
                unsafe { libc::_exit(code) }
            }
        })
    });
    match waitpid(child.expect("a process"), None).expect("its end") {
        WaitStatus::Signaled(_, Signal::SIGSYS, _) => "ended".into(),
        WaitStatus::Signaled(_, signal, _) => format!("{signal:?}"),
        WaitStatus::Exited(_, DONE) => "DONE".into(),
        WaitStatus::Exited(_, NO_WALLS) => "no walls".into(),
        WaitStatus::Exited(_, code) => format!("{:?}", Errno::from_raw(code)),
        other => format!("{other:?}"),
    }
}

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        // SAFETY: numbers, nulls, and addresses of constants; what the kernel makes of them is the test.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    }};
}

const HOSTS: *const libc::c_char = c"/etc/passwd".as_ptr();
const NULL: usize = 0;
const HERE: i32 = libc::AT_FDCWD;

/// On no list: each ends a thread of any kind. With what the walls alone say, where they do.
const NEVER: &[(&str, Option<&str>, Attempt)] = &[
    // Files and programs.
    ("a file of the host", Some("ENOENT"), |_| call!(SYS_openat, HERE, HOSTS, 0, 0)),
    ("a process's memory", Some("ENOENT"), |_| call!(SYS_openat, HERE, c"/proc/1/mem".as_ptr(), 2, 0)),
    ("a file of its own", Some("EROFS"), |_| {
        call!(SYS_openat, HERE, c"/new".as_ptr(), libc::O_CREAT | 1, 0o600)
    }),
    ("a path by openat2", None, |_| call!(SYS_openat2, HERE, HOSTS, NULL, 24)),
    ("a file by its handle", Some("EPERM"), |held| {
        call!(SYS_open_by_handle_at, held.file, [8_u32, 1, 0, 0].as_ptr(), 0)
    }),
    ("a program", Some("ENOENT"), |_| call!(SYS_execve, c"/bin/sh".as_ptr(), NULL, NULL)),
    ("memory for a program", None, |_| call!(SYS_memfd_create, c"program".as_ptr(), 0)),
    ("a program that is open", Some("ENOENT"), |held| {
        call!(SYS_execveat, held.program, c"".as_ptr(), NULL, NULL, libc::AT_EMPTY_PATH)
    }),
    ("memory that is executed", None, |_| call!(SYS_mmap, NULL, 4096, 5, 0x22, -1, 0)),
    ("a device node", Some("EROFS"), |_| {
        call!(SYS_mknodat, HERE, c"/sda".as_ptr(), libc::S_IFBLK | 0o600, 0x800)
    }),
    ("a file's rights", None, |held| call!(SYS_fchmod, held.file, 0o6777)),
    ("a file's owner", Some("EPERM"), |held| call!(SYS_fchown, held.file, 0, 0)),
    ("a file's length", None, |held| call!(SYS_ftruncate, held.file, 0)),
    ("a directory's names", Some("ENOTDIR"), |held| call!(SYS_getdents64, held.file, NULL, 0)),
    // Processes.
    ("another's end", Some("ESRCH"), |_| call!(SYS_kill, 2, 9)),
    ("everybody's end", Some("ESRCH"), |_| call!(SYS_kill, -1, 9)),
    ("to trace", Some("ESRCH"), |_| call!(SYS_ptrace, 0x4206, 2, 0, 0)),
    ("to be traced", None, |_| call!(SYS_ptrace, 0, 0, 0, 0)),
    ("another's memory", Some("ESRCH"), |_| {
        let place = [[0_usize; 2].as_ptr().addr(), 1];
        call!(SYS_process_vm_readv, 2, place.as_ptr(), 1_usize, place.as_ptr(), 1_usize, NULL)
    }),
    ("another's memory, to write", Some("ESRCH"), |_| {
        let place = [HOSTS.addr(), 1];
        call!(SYS_process_vm_writev, 2, place.as_ptr(), 1_usize, place.as_ptr(), 1_usize, NULL)
    }),
    ("another's pidfd", Some("ESRCH"), |_| call!(SYS_pidfd_open, 2, 0)),
    ("another's descriptor", Some("EBADF"), |_| call!(SYS_pidfd_getfd, -1, 0, 0)),
    ("a child", None, |_| call!(SYS_clone3, NULL, 0)),
    // Namespaces, users and limits.
    ("a user namespace", None, |_| call!(SYS_unshare, libc::CLONE_NEWUSER)),
    ("a network of its own", Some("EPERM"), |_| call!(SYS_unshare, libc::CLONE_NEWNET)),
    ("the host's mounts", Some("EPERM"), |held| call!(SYS_setns, held.namespace, 0)),
    ("a mount", Some("EPERM"), |_| call!(SYS_mount, NULL, c"/".as_ptr(), c"tmpfs".as_ptr(), 0, NULL)),
    ("a mount by fsopen", Some("EPERM"), |_| call!(SYS_fsopen, c"tmpfs".as_ptr(), 0)),
    ("no root", Some("EPERM"), |_| call!(SYS_umount2, c"/".as_ptr(), 2)),
    ("another root", Some("EPERM"), |_| call!(SYS_chroot, c"/".as_ptr())),
    ("to be root", Some("EPERM"), |_| call!(SYS_setuid, 0)),
    ("to be root's group", Some("EPERM"), |_| call!(SYS_setgid, 0)),
    ("more descriptors", Some("EPERM"), |_| call!(SYS_prlimit64, 0, 7, [1_u64 << 20; 2].as_ptr(), NULL)),
    ("longer files", Some("EPERM"), |_| call!(SYS_prlimit64, 0, 1, [1_u64 << 40; 2].as_ptr(), NULL)),
    ("to be looked into", None, |_| call!(SYS_prctl, 4, 1)),
    ("a capability", Some("EPERM"), |_| call!(SYS_prctl, 47, 2, 21, 0, 0)),
    ("another's name", Some("EPERM"), |_| call!(SYS_sethostname, c"mine".as_ptr(), 4)),
    // Networks.
    ("an internet socket", None, |_| call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)),
    ("a name in the abstract", None, |_| call!(SYS_socket, libc::AF_UNIX, libc::SOCK_DGRAM, 0)),
    ("netlink", None, |_| call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("vsock", None, |_| call!(SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("packets", Some("EPERM"), |_| call!(SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("a pair for datagrams", None, |_| call!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, NULL)),
    ("a connection", None, |held| call!(SYS_connect, held.stream, NULL, 0)),
    ("a name for a stream", None, |held| call!(SYS_bind, held.stream, ABSTRACT.as_ptr(), ABSTRACT.len())),
    ("to listen", None, |held| call!(SYS_listen, held.stream, 1)),
    ("bytes to an address", Some("EISCONN"), |held| {
        call!(SYS_sendto, held.stream, HOSTS, 1, 0, ABSTRACT.as_ptr(), ABSTRACT.len())
    }),
    ("a socket's options", None, |held| call!(SYS_setsockopt, held.stream, 1, 20, NULL, 0)),
    // The kernel's own.
    ("bpf", None, |_| call!(SYS_bpf, 0, NULL, 0)),
    ("perf", None, |_| call!(SYS_perf_event_open, NULL, 0, -1, -1, 0)),
    ("userfaultfd", None, |_| call!(SYS_userfaultfd, 0)),
    ("keys", None, |_| call!(SYS_keyctl, 0, -3, 1)),
    ("a key", None, |_| call!(SYS_add_key, c"user".as_ptr(), c"k".as_ptr(), c"k".as_ptr(), 1, -3)),
    ("a ring", None, |_| call!(SYS_io_uring_setup, 1, NULL)),
    ("a ring's files", None, |held| call!(SYS_io_uring_register, held.file, 2, NULL, 0)),
    ("a module", None, |_| call!(SYS_init_module, NULL, 0, NULL)),
    ("a module that is open", None, |held| call!(SYS_finit_module, held.program, c"".as_ptr(), 0)),
    ("a restart", Some("EPERM"), |_| call!(SYS_reboot, 0xfee1_dead_u32, 0x2812_1969, 0, 0)),
    ("the clock", Some("EPERM"), |_| call!(SYS_settimeofday, [0_u64; 2].as_ptr(), NULL)),
    ("the kernel's log", None, |_| call!(SYS_syslog, 3, NULL, 0)),
    // Requests to what is open.
    ("KVM_CREATE_VM", None, |held| call!(SYS_ioctl, held.kvm, 0xae01, 0)),
    ("KVM_CREATE_VCPU", None, |held| call!(SYS_ioctl, held.vm, 0xae41, 7)),
    ("KVM_SET_USER_MEMORY_REGION", None, |held| call!(SYS_ioctl, held.vm, 0x4020_ae46, NULL)),
    ("KVM_CREATE_DEVICE", None, |held| call!(SYS_ioctl, held.vm, 0xc00c_aee0_u32, NULL)),
    ("KVM_IRQFD", None, |held| call!(SYS_ioctl, held.vm, 0x4020_ae76, NULL)),
    ("TUNSETIFF", None, |held| call!(SYS_ioctl, held.tap, 0x4004_54ca, NULL)),
    ("TUNSETPERSIST", None, |held| call!(SYS_ioctl, held.tap, 0x4004_54cb, 1)),
    ("TUNATTACHFILTER", None, |held| call!(SYS_ioctl, held.tap, 0x4010_54d5, NULL)),
    ("FS_IOC_SETFLAGS", None, |held| call!(SYS_ioctl, held.file, 0x4008_6602, NULL)),
    ("FIFREEZE", None, |held| call!(SYS_ioctl, held.file, 0xc004_5877_u32, 0)),
    ("TIOCSTI", None, |held| call!(SYS_ioctl, held.file, 0x5412, NULL)),
    ("F_SETOWN", None, |held| call!(SYS_fcntl, held.stream, 8, 2)),
    ("F_SETLEASE", None, |held| call!(SYS_fcntl, held.file, 1024, 0)),
];

/// What these kinds may call, and what becomes of it.
const IN_VAIN: &[(&str, &[Kind], &str, Attempt)] = &[
    ("the host's names", &[Kind::Device, Kind::Main], "ENOENT", |_| {
        call!(SYS_statx, HERE, HOSTS, 0, 0, [0_u64; 32].as_ptr())
    }),
    ("the host's names, as before", &[Kind::Device, Kind::Main], "ENOENT", |_| {
        call!(SYS_newfstatat, HERE, HOSTS, [0_u64; 32].as_ptr(), 0)
    }),
    ("more descriptors than it may have", &KINDS, "EINVAL", |held| {
        call!(SYS_fcntl, held.file, libc::F_DUPFD_CLOEXEC, 1 << 20)
    }),
    ("a longer file", &[Kind::Device], "EFBIG", |held| {
        let vector = [HOSTS.addr(), 1];
        call!(SYS_pwritev2, held.file, vector.as_ptr(), 1, ROOM, 0, 0)
    }),
    ("a longer file, at its end", &KINDS, "EFBIG", |held| {
        // It was left at its end.
        call!(SYS_write, held.file, HOSTS, 1)
    }),
    ("what it may only read", &KINDS, "EBADF", |held| call!(SYS_write, held.program, HOSTS, 1)),
    ("a thread of another", &KINDS, "ESRCH", |_| call!(SYS_tgkill, 1, 2, 9)),
    ("a stream's bytes to a name", &KINDS, "EISCONN", |held| {
        let vector = [HOSTS.addr(), 1];
        let message = [ABSTRACT.as_ptr().addr(), ABSTRACT.len(), vector.as_ptr().addr(), 1, 0, 0, 0];
        call!(SYS_sendmsg, held.stream, message.as_ptr(), libc::MSG_NOSIGNAL)
    }),
];

/// `\0x`, of a family 1.
static ABSTRACT: [u8; 4] = [1, 0, 0, b'x'];

/// A descriptor that has an owner, or none.
fn number(of: &Option<OwnedFd>) -> RawFd {
    of.as_ref().map_or(-1, AsRawFd::as_raw_fd)
}

fn open(path: &str, write: bool) -> Option<OwnedFd> {
    File::options().read(true).write(write).open(path).ok().map(OwnedFd::from)
}

/// What is to be true of each attempt.
fn each(mut look: impl FnMut(&Held, &[BorrowedFd])) {
    assert!(nix::unistd::geteuid().is_root(), "run the tests as root: walls are built by root");
    let kvm = open("/dev/kvm", true);
    // SAFETY: KVM_CREATE_VM gives a number that nobody else knows.
    let vm = unsafe { libc::ioctl(number(&kvm), 0xae01, 0) };
    // SAFETY: as above.
    let vm = (vm >= 0).then(|| unsafe { OwnedFd::from_raw_fd(vm) });
    let tap = open("/dev/net/tun", true);
    let file = tempfile::tempfile().expect("a file");
    file.set_len(ROOM).expect("its length");
    std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).expect("its end");
    let (program, namespace) = (open("/bin/true", false), open("/proc/self/ns/mnt", false));
    let (stream, _other) = UnixStream::pair().expect("a stream");
    let held = Held {
        kvm: number(&kvm),
        vm: number(&vm),
        tap: number(&tap),
        file: file.as_raw_fd(),
        program: number(&program),
        stream: stream.as_raw_fd(),
        namespace: number(&namespace),
    };
    let some = [&kvm, &vm, &tap, &program, &namespace].into_iter().flatten().map(AsFd::as_fd);
    let kept: Vec<BorrowedFd> = some.chain([file.as_fd(), stream.as_fd()]).collect();
    look(&held, &kept);
}

#[test]
fn nothing_leads_out_of_a_cell() {
    each(|held, kept| {
        let mut wrong = Vec::new();
        for (name, alone, what) in NEVER {
            if let Some(expected) = alone {
                let found = tried(held, kept, None, *what);
                if found != *expected {
                    wrong.push(format!("{name}, by walls alone: {found}, not {expected}"));
                }
            }
            for kind in KINDS {
                let found = tried(held, kept, Some(kind), *what);
                if found != "ended" {
                    wrong.push(format!("{name}, {kind:?}: {found}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn what_a_cell_may_call_is_in_vain() {
    each(|held, kept| {
        let mut wrong = Vec::new();
        for (name, kinds, expected, what) in IN_VAIN {
            for kind in KINDS {
                let expected = if kinds.contains(&kind) { expected } else { "ended" };
                let found = tried(held, kept, Some(kind), *what);
                if found != expected {
                    wrong.push(format!("{name}, {kind:?}: {found}, not {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
