//! System calls that are on no list: each ends a thread of any kind.

use nix::libc;

use super::{ABSTRACT, Attempt, HERE, HOSTS, NULL};

/// Each, with what the walls alone say, where they do.
pub(super) const NEVER: &[(&str, Option<&str>, Attempt)] = &[
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
    ("a ring's operations", None, |held| call!(SYS_io_uring_register, held.file, 11, NULL, 0)),
    ("a module", None, |_| call!(SYS_init_module, NULL, 0, NULL)),
    ("a module that is open", None, |held| call!(SYS_finit_module, held.program, c"".as_ptr(), 0)),
    ("a restart", Some("EPERM"), |_| call!(SYS_reboot, 0xfee1_dead_u32, 0x2812_1969, 0, 0)),
    ("the clock", Some("EPERM"), |_| call!(SYS_settimeofday, [0_u64; 2].as_ptr(), NULL)),
    ("the kernel's log", None, |_| call!(SYS_syslog, 3, NULL, 0)),
    // Requests to files, and commands: for those to the machine and its devices see `requests`.
    ("FS_IOC_SETFLAGS", None, |held| call!(SYS_ioctl, held.file, 0x4008_6602, NULL)),
    ("FIFREEZE", None, |held| call!(SYS_ioctl, held.file, 0xc004_5877_u32, 0)),
    ("TIOCSTI", None, |held| call!(SYS_ioctl, held.file, 0x5412, NULL)),
    ("F_SETOWN", None, |held| call!(SYS_fcntl, held.stream, 8, 2)),
    ("F_SETLEASE", None, |held| call!(SYS_fcntl, held.file, 1024, 0)),
];
