use std::os::fd::AsRawFd;

use super::*;
use crate::bpf::{
    audit,
    simulated::{self, Data},
};
use calls::Allowed;
use std::collections::BTreeMap;

/// How a thread under that filter ends the process that does `what`: None when it lived to say so.
#[allow(unsafe_code)] // a process to try it in
fn ends(kind: Kind, verdict: Verdict, what: fn()) -> Option<i32> {
    let filters = Filters::new(verdict);
    // SAFETY: the child calls nothing that takes a lock another thread may have held, and never returns.
    match unsafe { libc::fork() } {
        0 => {
            if filters.hold(kind).is_err() {
                // SAFETY: it ends the process.
                unsafe { libc::_exit(99) };
            }
            what();
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the place is ours.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert!(libc::WIFSIGNALED(status) || libc::WEXITSTATUS(status) == 0, "{status:#x}");
            libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
        }
    }
}

#[allow(unsafe_code)] // system calls by number, whose success is not wanted
fn call(number: libc::c_long, arguments: [usize; 3]) {
    let [one, two, three] = arguments;
    // SAFETY: the arguments are numbers or nulls; what the kernel makes of them is the test.
    unsafe { libc::syscall(number, one, two, three, 0, 0, 0) };
}

#[test]
fn what_is_not_on_a_list_ends_the_process() {
    let forbidden: [fn(); 17] = [
        || call(libc::SYS_openat, [0, 0, 0]),
        || call(libc::SYS_socket, [2, 1, 0]),
        || call(libc::SYS_connect, [0, 0, 0]),
        || call(libc::SYS_execve, [0, 0, 0]),
        || call(libc::SYS_clone, [17, 0, 0]),
        || call(libc::SYS_clone3, [0, 0, 0]),
        || call(libc::SYS_io_uring_setup, [1, 0, 0]),
        || call(libc::SYS_io_uring_register, [0, 0, 0]),
        || call(libc::SYS_ptrace, [0, 0, 0]),
        || call(libc::SYS_bpf, [0, 0, 0]),
        || call(libc::SYS_unshare, [0, 0, 0]),
        || call(libc::SYS_setns, [0, 0, 0]),
        || call(libc::SYS_mount, [0, 0, 0]),
        || call(libc::SYS_process_vm_readv, [1, 0, 0]),
        || call(libc::SYS_kill, [1, 0, 0]),
        || call(libc::SYS_prctl, [4, 0, 0]),
        || call(libc::SYS_setsockopt, [0, 1, 20]),
    ];
    for kind in [Kind::Vcpu, Kind::Device, Kind::Main] {
        for (index, what) in forbidden.into_iter().enumerate() {
            assert_eq!(ends(kind, Verdict::Kill, what), Some(libc::SIGSYS), "{kind:?} {index}");
        }
    }
}

#[test]
fn arguments_are_looked_at() {
    let forbidden: [fn(); 10] = [
        // Memory that is executed, or shared with whoever has the same (KSM); KVM_CREATE_VM, TUNSETIFF; an internet socket;
        // another process; a signal at a descriptor's word, and a lock.
        || call(libc::SYS_mprotect, [0, 0, 4]),
        || call(libc::SYS_madvise, [0, 0, 12]),
        || call(libc::SYS_madvise, [0, 0, 100]),
        || call(libc::SYS_ioctl, [0, 0xae01, 0]),
        || call(libc::SYS_ioctl, [0, 0x4004_54ca, 0]),
        || call(libc::SYS_socketpair, [2, 1, 0]),
        || call(libc::SYS_tgkill, [2, 2, 0]),
        || call(libc::SYS_fcntl, [usize::MAX, 8, 1]),
        || call(libc::SYS_fcntl, [usize::MAX, 4, 0]),
        || call(libc::SYS_fcntl, [usize::MAX, 6, 0]),
    ];
    for kind in [Kind::Vcpu, Kind::Device, Kind::Main] {
        for (index, what) in forbidden.into_iter().enumerate() {
            assert_eq!(ends(kind, Verdict::Kill, what), Some(libc::SIGSYS), "{kind:?} {index}");
        }
    }
    // A disk that nobody seems to write to any more, and one that grows.
    let unlock = || call(libc::SYS_flock, [usize::MAX, 8, 0]);
    let lock = || call(libc::SYS_flock, [usize::MAX, 6, 0]);
    assert_eq!(ends(Kind::Main, Verdict::Kill, unlock), Some(libc::SIGSYS));
    assert_eq!(ends(Kind::Main, Verdict::Kill, lock), None);
    let grow = || call(libc::SYS_fallocate, [usize::MAX, 0, 0]);
    let punch = || call(libc::SYS_fallocate, [usize::MAX, 3, 0]);
    assert_eq!(ends(Kind::Device, Verdict::Kill, grow), Some(libc::SIGSYS));
    assert_eq!(ends(Kind::Device, Verdict::Kill, punch), None);
}

#[allow(unsafe_code)] // with an address of so many bytes, at null
fn send_to(length: usize) {
    // SAFETY: the arguments are numbers or nulls.
    unsafe { libc::syscall(libc::SYS_sendto, usize::MAX, 0, 0, 0, 0, length) };
}

/// What one kind does is not for the others.
#[test]
fn each_kind_has_what_it_does() {
    use Kind::{Device, Main, Vcpu};
    type Row = (&'static str, fn(), &'static [Kind]);
    let rows: [Row; 22] = [
        ("KVM_RUN", || call(libc::SYS_ioctl, [usize::MAX, 0xae80, 0]), &[Vcpu]),
        ("TUNSETOFFLOAD", || call(libc::SYS_ioctl, [usize::MAX, 0x4004_54d0, 0]), &[Vcpu, Main]),
        ("FIONBIO", || call(libc::SYS_ioctl, [usize::MAX, 0x5421, 0]), &[Device, Main]),
        ("VHOST_SET_MEM_TABLE", || call(libc::SYS_ioctl, [usize::MAX, 0x4008_af03, 0]), &[Vcpu]),
        ("VHOST_SET_VRING_ERR", || call(libc::SYS_ioctl, [usize::MAX, 0x4008_af22, 0]), &[Vcpu]),
        ("VHOST_RESET_OWNER", || call(libc::SYS_ioctl, [usize::MAX, 0xaf02, 0]), &[Vcpu, Device, Main]),
        (
            "VHOST_NET_SET_BACKEND",
            || call(libc::SYS_ioctl, [usize::MAX, 0x4008_af30, 0]),
            &[Vcpu, Device, Main],
        ),
        ("F_DUPFD_CLOEXEC", || call(libc::SYS_fcntl, [usize::MAX, 1030, 0]), &[Vcpu, Device, Main]),
        ("F_GETFD", || call(libc::SYS_fcntl, [usize::MAX, 1, 0]), &[Vcpu, Device, Main]),
        ("MADV_DONTNEED", || call(libc::SYS_madvise, [0, 0, 4]), &[Vcpu, Device, Main]),
        ("MADV_HUGEPAGE", || call(libc::SYS_madvise, [0, 0, 14]), &[Vcpu, Device, Main]),
        ("MADV_REMOVE", || call(libc::SYS_madvise, [0, 0, 9]), &[Device]),
        ("a pair of streams", || call(libc::SYS_socketpair, [1, 0x8_0001, 0]), &[Device]),
        ("a pair for datagrams", || call(libc::SYS_socketpair, [1, 0x8_0002, 0]), &[]),
        ("a pair of TIPC", || call(libc::SYS_socketpair, [30, 0x8_0001, 0]), &[]),
        ("sendto an address", || send_to(16), &[]),
        ("readv", || call(libc::SYS_readv, [usize::MAX, 0, 0]), &[Device]),
        ("timerfd_settime", || call(libc::SYS_timerfd_settime, [usize::MAX, 0, 0]), &[Device]),
        ("statx", || call(libc::SYS_statx, [usize::MAX, 0, 0]), &[Device, Main]),
        ("lseek", || call(libc::SYS_lseek, [usize::MAX, 0, 0]), &[Main]),
        ("getsockopt", || call(libc::SYS_getsockopt, [usize::MAX, 1, 3]), &[Main]),
        ("eventfd2", || call(libc::SYS_eventfd2, [0, usize::MAX, 0]), &[Main]),
    ];
    for (name, what, of) in rows {
        for kind in [Vcpu, Device, Main] {
            let expected = if of.contains(&kind) { None } else { Some(libc::SIGSYS) };
            assert_eq!(ends(kind, Verdict::Kill, what), expected, "{name} {kind:?}");
        }
    }
}

/// In a thread other than the first, whose heap would be another: see [`one_heap`].
#[test]
fn memory_is_given_back_without_a_file() {
    const ALONE: &str = "MSB_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // In a process that had no other thread: other tests' have heaps already.
        let name = "machine::seccomp::tests::memory_is_given_back_without_a_file";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let alone = command.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let give_back = || {
        let many: Vec<Vec<u8>> = (0..40).map(|_| vec![1; 100 << 10]).collect();
        drop(many);
    };
    one_heap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // From here on it has a heap.
            drop(vec![1_u8; 100]);
            for kind in [Kind::Vcpu, Kind::Device, Kind::Main] {
                assert_eq!(ends(kind, Verdict::Kill, give_back), None, "{kind:?}");
            }
        });
    });
}

#[test]
fn what_is_on_a_list_is_called_and_a_log_forbids_nothing() {
    let file = tempfile::tempfile().unwrap();
    assert!(file.as_raw_fd() > 2);
    let usual = || {
        let mut bytes = vec![0_u8; 1 << 20];
        assert_eq!(getrandom(&mut bytes[..8]), 8);
        drop(bytes);
        std::thread::yield_now();
    };
    for kind in [Kind::Vcpu, Kind::Device, Kind::Main] {
        assert_eq!(ends(kind, Verdict::Kill, usual), None, "{kind:?}");
        assert_eq!(ends(kind, Verdict::Log, || call(libc::SYS_socket, [2, 1, 0])), None, "{kind:?}");
    }
}

#[allow(unsafe_code)] // as the entropy device does it
fn getrandom(bytes: &mut [u8]) -> isize {
    // SAFETY: the buffer is ours.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) }
}

/// The numbers of the requests are the headers', as the crates that make them have them.
#[test]
fn requests_are_those_of_the_crates() {
    let calls = calls::of(Kind::Vcpu);
    let Allowed::OneOf { argument: 1, values } = &calls[&libc::SYS_ioctl] else { panic!("{calls:?}") };
    let clock = usize::from(cfg!(target_arch = "x86_64"));
    assert_eq!(values.len(), 1 + clock + 1 + 10 + 2);
    assert_eq!(libc::TUNSETOFFLOAD, 0x4004_54d0);
}

/// Every number that there is or may be, by every architecture, with arguments on both sides of each test.
#[test]
fn a_program_says_what_its_list_says() {
    const OTHERWISE: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    for kind in [Kind::Vcpu, Kind::Device, Kind::Main] {
        let calls = calls::of(kind);
        let program = filter::compile(&calls, OTHERWISE);
        let numbers = (0..1024).chain([1 << 30, (1 << 30) + 1, u32::MAX]);
        for (number, value) in numbers.flat_map(|number| values(&calls).map(move |value| (number, value))) {
            let given = |audit| {
                let arguments = [value, value, value, !0, !0, value];
                simulated::run(&program, Data { number, audit, arguments })
            };
            let low = u32::try_from(value & 0xffff_ffff).unwrap();
            let allowed = match calls.get(&i64::from(number)) {
                None => false,
                Some(Allowed::Always) => true,
                Some(Allowed::OneOf { values, .. }) => values.contains(&low),
                Some(Allowed::Each(arguments)) => arguments.iter().all(|(_, value)| *value == low),
                Some(Allowed::Without { bits, .. }) => low & bits == 0,
            };
            let (said, steps) = given(filter::ARCH);
            assert_eq!(said == libc::SECCOMP_RET_ALLOW, allowed, "{kind:?} {number} {value:#x}");
            assert!(allowed || said == OTHERWISE);
            // A search, and at most all requests of an ioctl.
            assert!(steps <= 30, "{kind:?} {number}: {steps} steps");
            assert_eq!(given(audit::I386).0, OTHERWISE);
        }
    }
}

/// One argument after the other, each of which must be right.
#[test]
fn every_argument_that_counts_is_looked_at() {
    let calls = [(9, Allowed::Each(vec![(0, 1), (1, 7), (4, 0)]))].into();
    let program = filter::compile(&calls, libc::SECCOMP_RET_KILL_PROCESS);
    for (arguments, allowed) in [
        ([1, 7, 9, 9, 0, 9], true),
        ([2, 7, 9, 9, 0, 9], false),
        ([1, 8, 9, 9, 0, 9], false),
        ([1, 7, 9, 9, 1, 9], false),
    ] {
        let said = simulated::run(&program, Data { number: 9, audit: filter::ARCH, arguments }).0;
        assert_eq!(said == libc::SECCOMP_RET_ALLOW, allowed, "{arguments:?}");
    }
}

/// Values that are asked for, and others.
fn values(calls: &BTreeMap<libc::c_long, Allowed>) -> impl Iterator<Item = u64> {
    let asked = calls.values().flat_map(|allowed| match allowed {
        Allowed::Always => Vec::new(),
        Allowed::OneOf { values, .. } => values.clone(),
        Allowed::Each(arguments) => arguments.iter().map(|(_, value)| *value).collect(),
        Allowed::Without { bits, .. } => vec![*bits],
    });
    let asked: Vec<u64> = asked.map(u64::from).collect();
    asked.into_iter().flat_map(|value| [value, value + 1, value | 1 << 32]).chain([0, 3, 4, 7, u64::MAX])
}
