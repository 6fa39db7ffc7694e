//! What a VMM that was broken into can still do: it is given its own cell, walls and the filter of each kind of its threads, and
//! tries. As root, which is who starts it.
//!
//! | it tries | walls alone | a thread's filter | in |
//! |---|---|---|---|
//! | the host's files, `/proc`, a file by its handle, a program | there is none, or no right to it | ends it | `never` |
//! | a program in memory or from an open descriptor, memory that is executed | – | ends it | `never` |
//! | other processes: signals, `ptrace`, their memory, pidfds | there are none | ends it | `never` |
//! | namespaces, mounts, another root or user, higher limits | no right | ends it | `never` |
//! | sockets: internet, packets, netlink, datagrams, names in the abstract | packets: no right; else – | ends it | `never` |
//! | `bpf`, `perf_event_open`, `userfaultfd`, keys, modules, io_uring, the clock, a restart | the last two: no right; else – | ends it | `never` |
//! | other requests to what it has open: KVM, its machine, a processor, a tap, vhost-net | – | ends it | `requests` |
//! | other requests and commands to files and sockets | – | ends it | `never` |
//! | what its kind may call, on what is not there for it, or another's | refused | refused | `vain` |
//! | a ring's operations beyond a disk's four, and what is registered with one | the ring refuses; registering: ends it | – | `machine::virtio::block::ring` |
//! | what no message of a wire is, and descriptors that none comes with | whoever reads it ends the wire, or closes them | – | `told` |
//!
//! Each attempt has a process of its own, which the kernel ends by SIGSYS or tells an error. "–": that is the filter's to hold.
#![allow(unsafe_code, reason = "processes to try it in, and system calls by number")]

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        // SAFETY: numbers, nulls, and addresses of constants; what the kernel makes of them is the test.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    }};
}

mod never;
mod requests;
mod told;
mod vain;

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    thread,
};

use nix::{
    errno::Errno,
    libc::{self, c_long},
    sched::{CloneFlags, unshare},
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};

use self::requests::To;
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

const HOSTS: *const libc::c_char = c"/etc/passwd".as_ptr();
const NULL: usize = 0;
const HERE: i32 = libc::AT_FDCWD;
/// `\0x`, of a family 1.
static ABSTRACT: [u8; 4] = [1, 0, 0, b'x'];

/// What it was given. Of what this host has not: the number of none.
struct Held {
    kvm: RawFd,
    machine: RawFd,
    processor: RawFd,
    /// Of an interface in a network of the test's own.
    tap: RawFd,
    /// The test is its owner.
    vhost: RawFd,
    vhost_of_nobody: RawFd,
    file: RawFd,
    program: RawFd,
    stream: RawFd,
    namespace: RawFd,
}

impl Held {
    fn number(&self, to: To) -> RawFd {
        match to {
            To::Kvm => self.kvm,
            To::Machine => self.machine,
            To::Processor => self.processor,
            To::Tap => self.tap,
            To::Vhost => self.vhost,
        }
    }
}

type Attempt = fn(&Held) -> c_long;

/// What becomes of who does it: how it is ended, which error it gets, or "DONE".
fn tried(held: &Held, kept: &[BorrowedFd], kind: Option<Kind>, what: impl Fn(&Held) -> c_long) -> String {
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

/// A descriptor that has an owner, or none.
fn number(of: &Option<OwnedFd>) -> RawFd {
    of.as_ref().map_or(-1, AsRawFd::as_raw_fd)
}

fn open(path: &str, write: bool) -> Option<OwnedFd> {
    File::options().read(true).write(write).open(path).ok().map(OwnedFd::from)
}

/// What a request makes, if it makes something.
fn made(of: &Option<OwnedFd>, request: u64) -> Option<OwnedFd> {
    let number = i32::try_from(call!(SYS_ioctl, number(of), request, NULL)).expect("a descriptor");
    // SAFETY: the kernel has just made it, and nobody else knows it.
    (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// A tap of an interface with a name of the kernel's choice, in the calling thread's network.
fn open_tap() -> Option<OwnedFd> {
    let tap = open("/dev/net/tun", true)?;
    // IFF_TAP, IFF_NO_PI and IFF_VNET_HDR behind the name, in a `struct ifreq`.
    let mut request = [0_u16; 20];
    request[8] = 0x5002;
    // TUNSETIFF
    let attached = call!(SYS_ioctl, tap.as_raw_fd(), 0x4004_54ca, request.as_mut_ptr());
    assert_eq!(attached, 0, "{}", Errno::last());
    Some(tap)
}

/// `look` is given what is to be held, and what of it is there. It runs in a thread that has a network of its own, and with it
/// the tap is gone.
fn each<R: Send>(look: impl FnOnce(&Held, &[BorrowedFd]) -> R + Send) -> R {
    assert!(nix::unistd::geteuid().is_root(), "run the tests as root: walls are built by root");
    let looked = thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network");
            with_all(look)
        });
        apart.join()
    });
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn with_all<R>(look: impl FnOnce(&Held, &[BorrowedFd]) -> R) -> R {
    let kvm = open("/dev/kvm", true);
    // KVM_CREATE_VM, KVM_CREATE_VCPU
    let machine = made(&kvm, 0xae01);
    let processor = made(&machine, 0xae41);
    let tap = open_tap();
    let [vhost, vhost_of_nobody] = [(); 2].map(|()| open("/dev/vhost-net", true));
    if vhost.is_some() {
        // VHOST_SET_OWNER
        assert_eq!(call!(SYS_ioctl, number(&vhost), 0xaf01, NULL), 0, "{}", Errno::last());
    }
    let file = tempfile::tempfile().expect("a file");
    file.set_len(ROOM).expect("its length");
    std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).expect("its end");
    let (program, namespace) = (open("/bin/true", false), open("/proc/self/ns/mnt", false));
    let (stream, _other) = UnixStream::pair().expect("a stream");
    let held = Held {
        kvm: number(&kvm),
        machine: number(&machine),
        processor: number(&processor),
        tap: number(&tap),
        vhost: number(&vhost),
        vhost_of_nobody: number(&vhost_of_nobody),
        file: file.as_raw_fd(),
        program: number(&program),
        stream: stream.as_raw_fd(),
        namespace: number(&namespace),
    };
    let some = [&kvm, &machine, &processor, &tap, &vhost, &vhost_of_nobody, &program, &namespace];
    let some = some.into_iter().flatten().map(AsFd::as_fd);
    let kept: Vec<BorrowedFd> = some.chain([file.as_fd(), stream.as_fd()]).collect();
    look(&held, &kept)
}

/// Says of what there was none, once each.
fn skip(mut missing: Vec<To>) {
    missing.dedup();
    for to in missing {
        test_skips::skip(format_args!("{to:?} is not to be had on this host"));
    }
}

#[test]
fn nothing_leads_out_of_a_cell() {
    each(|held, kept| {
        let mut wrong = Vec::new();
        for (name, alone, what) in never::NEVER {
            if let Some(expected) = alone {
                let found = tried(held, kept, None, what);
                if found != *expected {
                    wrong.push(format!("{name}, by walls alone: {found}, not {expected}"));
                }
            }
            for kind in KINDS {
                let found = tried(held, kept, Some(kind), what);
                if found != "ended" {
                    wrong.push(format!("{name}, {kind:?}: {found}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn no_request_to_what_it_has_leads_out_of_a_cell() {
    each(|held, kept| {
        let mut wrong = Vec::new();
        for (name, to, _, request) in requests::REQUESTS {
            for kind in KINDS {
                let found = tried(held, kept, Some(kind), |held| requests::make(held, *to, *request));
                if found != "ended" {
                    wrong.push(format!("{name} to {to:?}, {kind:?}: {found}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Looks at the requests to what `here` says: each is known to the kernel. To what there was none of.
fn known(here: impl Fn(To) -> bool + Send) -> Vec<To> {
    each(move |held, _| {
        let (mut wrong, mut missing) = (Vec::new(), Vec::new());
        for (name, to, expected, request) in requests::REQUESTS.iter().filter(|(_, to, ..)| here(*to)) {
            if held.number(*to) < 0 {
                missing.push(*to);
                continue;
            }
            let found = match requests::make(held, *to, *request) {
                -1 => format!("{:?}", Errno::last()),
                0 => "DONE".into(),
                number => {
                    let number = RawFd::try_from(number).expect("a descriptor");
                    // SAFETY: the kernel has just made it, and nobody else knows it.
                    drop(unsafe { OwnedFd::from_raw_fd(number) });
                    "a descriptor".into()
                }
            };
            if found != *expected {
                wrong.push(format!("{name} to {to:?}: {found}, not {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        missing
    })
}

/// Without that, a number that was written wrongly would be held as well.
#[test]
fn each_request_is_one_that_who_is_not_held_can_make() {
    skip(known(|to| to != To::Vhost));
}

#[test]
fn each_request_to_vhost_net_is_one_that_who_is_not_held_can_make() {
    skip(known(|to| to == To::Vhost));
}

/// Tries what takes nothing, or something of which `here` says so. What there was none of.
fn in_vain(here: impl Fn(Option<To>) -> bool + Send) -> Vec<To> {
    each(move |held, kept| {
        let (mut wrong, mut missing) = (Vec::new(), Vec::new());
        for (name, needed, kinds, expected, what) in
            vain::IN_VAIN.iter().filter(|(_, needed, ..)| here(*needed))
        {
            if let Some(to) = needed.filter(|to| held.number(*to) < 0) {
                missing.push(to);
                continue;
            }
            for kind in KINDS {
                let expected = if kinds.contains(&kind) { *expected } else { "ended" };
                let found = tried(held, kept, Some(kind), what);
                if found != expected {
                    wrong.push(format!("{name}, {kind:?}: {found}, not {expected}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        missing
    })
}

#[test]
fn what_a_cell_may_call_is_in_vain() {
    skip(in_vain(|needed| needed != Some(To::Vhost)));
}

#[test]
fn what_a_cell_may_ask_of_vhost_net_is_in_vain() {
    skip(in_vain(|needed| needed == Some(To::Vhost)));
}
