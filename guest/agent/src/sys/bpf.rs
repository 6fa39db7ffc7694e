//! bpf(2): programs at a cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Commands, types and flags of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_DEVICE: u32 = 15;
const AT_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` up to what BPF_PROG_LOAD needs.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    place: u32,
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    place: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` (8 bytes an instruction) for that place.
pub fn load_sock_addr(program: &[u8], place: u32) -> Result<OwnedFd, Errno> {
    load(CGROUP_SOCK_ADDR, place, *b"msb_names\0\0\0\0\0\0\0", program)
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (8 bytes an instruction).
pub fn load_device_filter(program: &[u8]) -> Result<OwnedFd, Errno> {
    load(CGROUP_DEVICE, AT_CGROUP_DEVICE, *b"msb_devices\0\0\0\0\0", program)
}

/// Attaches it as [`attach_to_cgroup`].
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    attach_to_cgroup(cgroup, program.as_raw_fd(), AT_CGROUP_DEVICE)
}

fn load(kind: u32, place: u32, name: [u8; 16], program: &[u8]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let load = Load {
        kind,
        count: u32::try_from(program.len() / 8).map_err(|_| Errno::E2BIG)?,
        instructions: u64::try_from(program.as_ptr().addr()).map_err(|_| Errno::EFAULT)?,
        license: u64::try_from(license.as_ptr().addr()).map_err(|_| Errno::EFAULT)?,
        log: [0; 2],
        version: 0,
        flags: 0,
        name,
        interface: 0,
        place,
    };
    // SAFETY: reads one `Load`, and the instructions and the licence that it names, which live until it returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    super::owned(fd)
}

/// Attaches a program to a cgroup, beside others; it stays when its descriptor is closed.
pub fn attach_to_cgroup(cgroup: BorrowedFd<'_>, program: RawFd, place: u32) -> Result<(), Errno> {
    let number = |fd: RawFd| u32::try_from(fd).map_err(|_| Errno::EBADF);
    let attach =
        Attach { target: number(cgroup.as_raw_fd())?, program: number(program)?, place, flags: ALLOW_MULTI };
    // SAFETY: reads one `Attach`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}
