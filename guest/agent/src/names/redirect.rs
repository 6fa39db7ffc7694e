//! 127.0.0.11:53 becomes 127.0.0.11:port for the processes of a cgroup: four programs of a few instructions each, run by
//! the kernel where an address is given (`BPF_PROG_TYPE_CGROUP_SOCK_ADDR`). No packet is looked at, and no rule is seen
//! in the container's packet filter.

use std::os::fd::{AsRawFd, BorrowedFd};

use msb_agent::protocol::NAME_SERVER;
use nix::errno::Errno;

use crate::sys;

/// `enum bpf_attach_type` of linux/bpf.h: where an address is given by the process …
const CONNECT: u32 = 10; // BPF_CGROUP_INET4_CONNECT
const SENDMSG: u32 = 14; // BPF_CGROUP_UDP4_SENDMSG
/// … and where one is shown to it.
const RECVMSG: u32 = 19; // BPF_CGROUP_UDP4_RECVMSG
const GETPEERNAME: u32 = 29; // BPF_CGROUP_INET4_GETPEERNAME
/// The port of name servers.
const DOMAIN: u16 = 53;

/// Fields of `struct bpf_sock_addr`, both in the network's order.
const USER_IP4: i16 = 4;
const USER_PORT: i16 = 24;

/// Instructions (linux/bpf.h, linux/bpf_common.h).
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const STORE_WORD: u8 = 0x63; // BPF_STX | BPF_MEM | BPF_W
const JUMP_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Redirects questions of the cgroup's processes to that port, for the life of the cgroup.
///
/// # Errors
/// The kernel's.
pub fn install(cgroup: BorrowedFd<'_>, port: u16) -> Result<(), Errno> {
    for (place, from, to) in [
        (CONNECT, DOMAIN, port),
        (SENDMSG, DOMAIN, port),
        (RECVMSG, port, DOMAIN),
        (GETPEERNAME, port, DOMAIN),
    ] {
        let program = sys::load_sock_addr(&program(from, to), place)?;
        sys::attach_to_cgroup(cgroup, program.as_raw_fd(), place)?;
    }
    Ok(())
}

/// Where the address is 127.0.0.11 and the port `from`, the port becomes `to`. Always allowed.
fn program(from: u16, to: u16) -> Vec<u8> {
    let address = i32::from_ne_bytes(NAME_SERVER.octets());
    let network = |port: u16| i32::from(port.to_be());
    let instructions = [
        // r2 = the address; r1 is the context
        (LOAD_WORD, 2, 1, USER_IP4, 0),
        (JUMP_NOT_EQUAL, 2, 0, 4, address),
        (LOAD_WORD, 2, 1, USER_PORT, 0),
        (JUMP_NOT_EQUAL, 2, 0, 2, network(from)),
        (MOVE, 2, 0, 0, network(to)),
        (STORE_WORD, 1, 2, USER_PORT, 0),
        // r0 = 1: go on
        (MOVE, 0, 0, 0, 1),
        (EXIT, 0, 0, 0, 0),
    ];
    instructions
        .into_iter()
        .flat_map(|(code, to, from, offset, value)| instruction(code, to, from, offset, value))
        .collect()
}

/// `struct bpf_insn`
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_eight_instructions_that_end() {
        let program = program(53, 4000);
        assert_eq!(program.len(), 64);
        assert_eq!(program[8..16], [0x55, 0x02, 4, 0, 127, 0, 0, 11]);
        assert_eq!(program[24..32], [0x55, 0x02, 2, 0, 0, 53, 0, 0]);
        assert_eq!(program[56], EXIT);
    }
}
