//! What a process between walls can still do: nothing, one row for each thing. As root, which is who starts it.
#![allow(unsafe_code, reason = "a process to try it in")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigHandler, Signal, kill, signal},
        stat::{Mode, SFlag, mknod},
        uio::pwrite,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, chdir, chroot, fork, pipe, sethostname, setuid},
};

use super::*;

/// Bytes of a file.
const ROOM: u64 = 4096;

/// What `inside` says of a process between walls; `before` is done by it while it still may, and what it opens is kept.
fn confined(kept: &[BorrowedFd], inside: impl FnOnce() -> String) -> String {
    assert!(nix::unistd::geteuid().is_root(), "run the tests as root: walls are built by root");
    let (reader, writer) = pipe().unwrap();
    let child = apart(|| {
        // SAFETY: the child allocates and calls the kernel alone, and ends by `_exit`.
        Ok(match unsafe { fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let kept: Vec<BorrowedFd> = kept.iter().copied().chain([writer.as_fd()]).collect();
                let said = match close_all_but(&kept).and_then(|()| enter(ROOM)) {
                    Ok(()) => inside(),
                    Err(error) => format!("no walls: {error}: {:?}", error.source),
                };
                let _ = File::from(writer.try_clone().unwrap()).write_all(said.as_bytes());
                // SAFETY: it ends the process.
                unsafe { libc::_exit(0) }
            }
        })
    });
    drop(writer);
    let mut said = String::new();
    File::from(reader).read_to_string(&mut said).unwrap();
    assert!(matches!(waitpid(child.unwrap(), None).unwrap(), WaitStatus::Exited(_, 0)), "{said}");
    said
}

fn told<T>(name: &str, result: Result<T, Errno>) -> String {
    format!("{name}: {}\n", result.map_or_else(|errno| format!("{errno:?}"), |_| "DONE".to_owned()))
}

fn try_open(path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    open(path, flags, Mode::from_bits_truncate(0o600))
}

/// Each attempt, and how the kernel refuses it.
#[test]
fn there_is_no_way_out() {
    let host = File::open("/proc/self/ns/mnt").unwrap();
    let said = confined(&[host.as_fd()], || {
        const NONE: Option<&str> = None;
        [
            told("the host's files", try_open("/etc/passwd", OFlag::O_RDONLY)),
            told("/proc", try_open("/proc/1/environ", OFlag::O_RDONLY)),
            told("/dev/kvm", try_open("/dev/kvm", OFlag::O_RDWR)),
            told("a file of its own", try_open("/new", OFlag::O_CREAT | OFlag::O_WRONLY)),
            told("upwards", try_open("../../../etc/passwd", OFlag::O_RDONLY)),
            told("a device node", mknod("/sda", SFlag::S_IFBLK, Mode::S_IRUSR, 0x800)),
            told("a mount", mount(Some("none"), "/", Some("proc"), MsFlags::empty(), NONE)),
            told("a mount that is written", mount(NONE, "/", NONE, MsFlags::MS_REMOUNT, NONE)),
            told("another root", chroot("/")),
            told("the host's mounts", setns(host.as_fd(), CloneFlags::CLONE_NEWNS)),
            told("a network of its own", unshare(CloneFlags::CLONE_NEWNET)),
            told("to be root again", setuid(0.into())),
            told("the host's name", sethostname("mine")),
            told("the parent's process", kill(Pid::from_raw(2), Signal::SIGKILL)),
            told("to look into another", look_into(2)),
            told("a raw socket", raw_socket()),
        ]
        .concat()
    });
    let expected = "the host's files: ENOENT
/proc: ENOENT
/dev/kvm: ENOENT
a file of its own: EROFS
upwards: ENOENT
a device node: EROFS
a mount: EPERM
a mount that is written: EPERM
another root: EPERM
the host's mounts: EPERM
a network of its own: EPERM
to be root again: EPERM
the host's name: EPERM
the parent's process: ESRCH
to look into another: ESRCH
a raw socket: EPERM
";
    assert_eq!(said, expected);
}

fn raw_socket() -> Result<(), Errno> {
    // SAFETY: plain numbers; the process ends soon.
    Errno::result(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }).map(drop)
}

fn look_into(pid: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let attached = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    if attached == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// A user namespace gives it capabilities inside, where the host lets it: `machine::seccomp` forbids to make one, here it gains
/// nothing. Not the host's files or disks, nor a `/proc`.
#[test]
fn a_user_namespace_opens_nothing() {
    let host = File::open("/proc/self/ns/mnt").unwrap();
    let said = confined(&[host.as_fd()], || {
        const NONE: Option<&str> = None;
        let made = told("made", unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS));
        [
            made,
            told("files", try_open("/etc/passwd", OFlag::O_RDONLY)),
            told("upwards", try_open("../../etc/passwd", OFlag::O_RDONLY)),
            told("/proc", mount(Some("none"), "/", Some("proc"), MsFlags::empty(), NONE)),
            told("a disk", mount(Some("/dev/sda"), "/", Some("ext4"), MsFlags::empty(), NONE)),
            told("a device node", mknod("/sda", SFlag::S_IFBLK, Mode::S_IRUSR, 0x800)),
            told("the host's mounts", setns(host.as_fd(), CloneFlags::CLONE_NEWNS)),
            told("to be root", setuid(0.into())),
        ]
        .concat()
    });
    let (made, gained) = said.split_once('\n').unwrap();
    // Where user namespaces are for root alone, or for nobody.
    let refused = ["made: EPERM", "made: ENOSPC", "made: EUSERS"].contains(&made);
    assert!(refused || made == "made: DONE", "{said}");
    // In one, root is nobody's number.
    let root = if refused { "EPERM" } else { "EINVAL" };
    let expected = format!(
        "files: ENOENT
upwards: ENOENT
/proc: EPERM
a disk: EPERM
a device node: EROFS
the host's mounts: EPERM
to be root: {root}
"
    );
    assert_eq!(gained, expected, "{said}");
}

#[test]
fn only_what_was_named_stays_open() {
    let mut kept = tempfile::tempfile().unwrap();
    let other = tempfile::tempfile().unwrap();
    let (keep, close) = (kept.as_fd(), std::os::fd::AsRawFd::as_raw_fd(&other));
    let said = confined(&[keep], || {
        // SAFETY: a number that is no descriptor any more.
        let gone = Errno::result(unsafe { libc::fcntl(close, libc::F_GETFD) });
        let written = nix::unistd::write(keep, b"kept");
        // SAFETY: the signal is ignored, which runs nothing.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
        let more = told("more than it has room for", pwrite(keep, b"x", ROOM.cast_signed()));
        let up = chdir("..").and_then(|()| nix::unistd::getcwd());
        format!("{}{}{more}{up:?}\n", told("other", gone), told("kept", written))
    });
    assert_eq!(said, "other: EBADF\nkept: DONE\nmore than it has room for: EFBIG\nOk(\"/\")\n");
    std::io::Seek::rewind(&mut kept).unwrap();
    let mut content = String::new();
    kept.read_to_string(&mut content).unwrap();
    assert_eq!(content, "kept");
}

/// As others see it, and as the kernel ends it with its parent.
#[test]
fn others_see_a_nobody_who_ends_with_its_parent() {
    let (reader, writer) = pipe().unwrap();
    let (told_pid, tell_pid) = pipe().unwrap();
    // SAFETY: it calls the kernel alone and is killed or ends by `_exit`.
    let parent = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let kept = [writer.as_fd()];
            let child = apart(|| {
                // SAFETY: as above.
                Ok(match unsafe { fork() }? {
                    ForkResult::Parent { child } => child,
                    ForkResult::Child => {
                        let fine = close_all_but(&kept).and_then(|()| enter(ROOM)).is_ok();
                        let _ = nix::unistd::write(writer.as_fd(), &[u8::from(fine)]);
                        loop {
                            nix::unistd::pause();
                        }
                    }
                })
            });
            let pid = child.unwrap().as_raw().to_le_bytes();
            nix::unistd::write(tell_pid.as_fd(), &pid).unwrap();
            loop {
                nix::unistd::pause();
            }
        }
    };
    drop((writer, tell_pid));
    let (mut pid, mut fine) = ([0; 4], [0]);
    File::from(told_pid).read_exact(&mut pid).unwrap();
    let mut reader = File::from(reader);
    reader.read_exact(&mut fine).unwrap();
    assert_eq!(fine, [1]);
    let child = u32::try_from(i32::from_le_bytes(pid)).unwrap();
    let seen = Seen::of(child).unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Its own as long as it lives, on the whole host.
    let namespace = fs::metadata(format!("/proc/{child}/ns/pid")).unwrap().ino();
    let uid = u32::try_from(u64::from(BASE) + namespace - 0xf000_0000).unwrap();
    let expected = Seen {
        uid,
        powerless: true,
        no_new_privs: true,
        threads: 1,
        filtered: seen.filtered,
        mounts: 1,
        namespaces: Some(NAMESPACES.to_vec()),
        descriptors: DESCRIPTORS.min(most),
        processes: THREADS,
        core: 0,
    };
    assert_eq!(seen, expected);
    kill(parent, Signal::SIGKILL).unwrap();
    waitpid(parent, None).unwrap();
    // Its end of the pipe is the last one: it is closed when it has ended.
    assert_eq!(reader.read(&mut fine).unwrap(), 0);
}

/// Later children are born where this process is.
#[test]
fn only_the_next_child_is_apart() {
    let thread = std::thread::spawn(|| {
        let child = apart(|| {
            // SAFETY: the child ends by `_exit`.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => Ok(child),
                // SAFETY: it ends the process.
                ForkResult::Child => unsafe { libc::_exit(i32::from(std::process::id() != 1)) },
            }
        });
        let child = child.unwrap();
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        let [own, next] = ["pid", "pid_for_children"]
            .map(|name| fs::read_link(format!("/proc/thread-self/ns/{name}")).unwrap());
        assert_eq!(own, next);
    });
    thread.join().unwrap();
}
