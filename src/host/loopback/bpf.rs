//! bpf(2): the program that names the socket, the map that holds the socket, and their place at the namespace.
#![allow(unsafe_code, reason = "bpf(2) has no wrapper in nix or libc")]

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    libc::{self, c_int, c_long},
};

/// Commands, types and places of linux/bpf.h.
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
const PROG_LOAD: c_int = 5;
const LINK_CREATE: c_int = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const SK_LOOKUP: u32 = 36;

/// Functions of the kernel that a program may call.
const FUNC_MAP_LOOKUP_ELEM: i32 = 1;
const FUNC_SK_RELEASE: i32 = 86;
const FUNC_SK_ASSIGN: i32 = 124;

/// Fields of `struct bpf_sk_lookup`; the address is in the network's order.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;

/// Instructions (linux/bpf.h, linux/bpf_common.h).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const STORE_VALUE: u8 = 0x62; // BPF_ST | BPF_MEM | BPF_W
const LOAD_MAP: u8 = 0x18; // BPF_LD | BPF_DW | BPF_IMM, of two instructions
const PSEUDO_MAP_FD: u8 = 1;
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const ADD: u8 = 0x07; // BPF_ALU64 | BPF_ADD | BPF_K
const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// `SK_PASS`: go on, with the socket that was named or, without one, as ever.
const PASS: i32 = 1;
/// The frame pointer.
const FRAME: u8 = 10;

/// `union bpf_attr` of BPF_MAP_CREATE, as far as it is needed; what is not given is zero.
#[repr(C)]
struct Map {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Of BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct Update {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Of BPF_PROG_LOAD.
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

/// Of BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    place: u32,
    flags: u32,
}

/// Connections to 127.0.0.1 in the calling thread's network namespace come to `listener`, until what is returned is closed.
pub(super) fn redirect(listener: &TcpListener) -> Result<OwnedFd, Errno> {
    let map =
        made(call(MAP_CREATE, &Map { kind: MAP_TYPE_SOCKMAP, key_size: 4, value_size: 8, max_entries: 1 })?)?;
    let (key, value) = (0_u32, u64::from(number(listener)?));
    call(
        MAP_UPDATE_ELEM,
        &Update { map: number(&map)?, _padding: 0, key: address(&key)?, value: address(&value)?, flags: 0 },
    )?;
    let program = program(map.as_raw_fd());
    let license = c"Apache-2.0";
    let program = made(call(
        PROG_LOAD,
        &Load {
            kind: PROG_TYPE_SK_LOOKUP,
            count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
            instructions: u64::try_from(program.as_ptr().addr()).map_err(|_| Errno::EFAULT)?,
            license: u64::try_from(license.as_ptr().addr()).map_err(|_| Errno::EFAULT)?,
            log: [0; 2],
            version: 0,
            flags: 0,
            name: *b"msb_loopback\0\0\0\0",
            interface: 0,
            place: SK_LOOKUP,
        },
    )?)?;
    let namespace = File::open("/proc/thread-self/ns/net")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let link = Link { program: number(&program)?, target: number(&namespace)?, place: SK_LOOKUP, flags: 0 };
    // The link keeps the program, the program the map, and the map the socket only as long as its owner has it.
    made(call(LINK_CREATE, &link)?)
}

/// TCP to 127.0.0.1: the map's socket. All else: as ever.
fn program(map: RawFd) -> Vec<[u8; 8]> {
    let localhost = i32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    vec![
        // r6 = the context
        instruction(MOVE_REGISTER, 6, 1, 0, 0),
        instruction(LOAD_WORD, 2, 6, FAMILY, 0),
        instruction(JUMP_NOT_EQUAL, 2, 0, 18, libc::AF_INET),
        instruction(LOAD_WORD, 2, 6, PROTOCOL, 0),
        instruction(JUMP_NOT_EQUAL, 2, 0, 16, libc::IPPROTO_TCP),
        instruction(LOAD_WORD, 2, 6, LOCAL_IP4, 0),
        instruction(JUMP_NOT_EQUAL, 2, 0, 14, localhost),
        // r0 = the map's element 0, or nothing
        instruction(STORE_VALUE, FRAME, 0, -4, 0),
        instruction(MOVE_REGISTER, 2, FRAME, 0, 0),
        instruction(ADD, 2, 0, 0, -4),
        instruction(LOAD_MAP, 1, PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
        instruction(CALL, 0, 0, 0, FUNC_MAP_LOOKUP_ELEM),
        instruction(JUMP_EQUAL, 0, 0, 7, 0),
        // It is named, and given back.
        instruction(MOVE_REGISTER, 7, 0, 0, 0),
        instruction(MOVE_REGISTER, 1, 6, 0, 0),
        instruction(MOVE_REGISTER, 2, 7, 0, 0),
        instruction(MOVE, 3, 0, 0, 0),
        instruction(CALL, 0, 0, 0, FUNC_SK_ASSIGN),
        instruction(MOVE_REGISTER, 1, 7, 0, 0),
        instruction(CALL, 0, 0, 0, FUNC_SK_RELEASE),
        instruction(MOVE, 0, 0, 0, PASS),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// `struct bpf_insn`
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> [u8; 8] {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let ([offset0, offset1], [a, b, c, d]) = (offset.to_ne_bytes(), value.to_ne_bytes());
    [code, registers, offset0, offset1, a, b, c, d]
}

fn number(fd: &impl AsRawFd) -> Result<u32, Errno> {
    u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::EBADF)
}

fn address<T>(of: &T) -> Result<u64, Errno> {
    u64::try_from(std::ptr::from_ref(of).addr()).map_err(|_| Errno::EFAULT)
}

/// bpf(2) with the attributes of `command`.
fn call<T>(command: c_int, attributes: &T) -> Result<c_long, Errno> {
    // SAFETY: the kernel reads one `T`, and what it names by address, which its maker keeps until this returns. It writes
    // to none of it: no log is asked for.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    })
}

/// Of a descriptor that bpf(2) has made, which is closed on exec.
fn made(fd: c_long) -> Result<OwnedFd, Errno> {
    let raw = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_out_of_the_program_is_its_pass() {
        let program = program(7);
        let pass = program.len() - 2;
        assert_eq!(program[pass], instruction(MOVE, 0, 0, 0, PASS));
        for (at, bytes) in program.iter().enumerate() {
            if [JUMP_EQUAL, JUMP_NOT_EQUAL].contains(&bytes[0]) {
                let by = usize::from(u16::from_ne_bytes([bytes[2], bytes[3]]));
                let target = at + 1 + by;
                assert_eq!(target, pass, "the jump at {at}");
            }
        }
    }
}
