//! `linux.resources.devices` → a program that the kernel asks before each open and mknod of a device.
//!
//! Of the rules that speak of a device and a kind of access, the last one counts, for each kind by itself: who asks for
//! reading and writing at once needs both. What no rule speaks of is denied. The program is therefore the list read
//! backwards, with the kinds of access that are still open in a register:
//!
//! ```text
//!  r2 = type   r3 = open kinds of access   r4 = major   r5 = minor
//!  for each rule, the last first:
//!      another device? → next rule
//!      allow: r3 &= !access; nothing left open? → return 1
//!      deny:  r3 & access?                      → return 0
//!  return 0
//! ```

use std::os::fd::{AsFd, BorrowedFd};

use msb_agent::protocol::{DeviceKind, DeviceRule, Failure, allow_all};

use crate::container::{at, plain};
use crate::sys;

/// `BPF_DEVCG_DEV_*` (linux/bpf.h).
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// One instruction (`struct bpf_insn`): operation, registers (source, destination), jump, number.
type Instruction = (u8, u8, u8, i16, i32);

/// Operations of linux/bpf.h and linux/bpf_common.h: class | size or source | code.
const LOAD_32: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const MOVE_NUMBER: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND_NUMBER: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_IF_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
const JUMP_IF_OTHER: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Offsets in `struct bpf_cgroup_dev_ctx`.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

/// Holds the cgroup to `rules`; nothing to do where everything is allowed.
///
/// # Errors
/// [`Failure::Setup`].
pub fn attach(cgroup: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<(), Failure> {
    if allow_all(rules) {
        return Ok(());
    }
    let step = || "apply the device rules".into();
    let program = sys::load_device_filter(&bytes(&program(rules))).map_err(plain).map_err(at(step))?;
    sys::attach_device_filter(cgroup, program.as_fd()).map_err(plain).map_err(at(step))
}

fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        (LOAD_32, 1, 2, ACCESS_TYPE, 0),
        // access << 16 | type
        (MOVE, 2, 3, 0, 0),
        (AND_NUMBER, 0, 2, 0, 0xffff),
        (SHIFT_RIGHT, 0, 3, 0, 16),
        (LOAD_32, 1, 4, MAJOR, 0),
        (LOAD_32, 1, 5, MINOR, 0),
    ];
    for rule in rules.iter().rev() {
        let access = i32::from(rule.access.bits());
        let mut does = if rule.allow {
            vec![
                (AND_NUMBER, 0, 3, 0, !access),
                (JUMP_IF_OTHER, 0, 3, 2, 0),
                (MOVE_NUMBER, 0, 0, 0, 1),
                (EXIT, 0, 0, 0, 0),
            ]
        } else {
            vec![
                (MOVE, 3, 1, 0, 0),
                (AND_NUMBER, 0, 1, 0, access),
                (JUMP_IF_EQUAL, 0, 1, 2, 0),
                (MOVE_NUMBER, 0, 0, 0, 0),
                (EXIT, 0, 0, 0, 0),
            ]
        };
        let kind = match rule.kind {
            Some(DeviceKind::Block) => Some(BLOCK),
            Some(DeviceKind::Char) => Some(CHAR),
            // A fifo is no device of a driver: nobody asks.
            Some(DeviceKind::Fifo) => continue,
            None => None,
        };
        let tests = [(2, kind), (4, rule.major.map(u32::cast_signed)), (5, rule.minor.map(u32::cast_signed))];
        for (register, wanted) in tests.into_iter().rev() {
            let Some(wanted) = wanted else { continue };
            // Over the rest of this rule.
            let over = i16::try_from(does.len()).unwrap_or(0);
            does.insert(0, (JUMP_IF_OTHER, 0, register, over, wanted));
        }
        program.extend(does);
    }
    program.extend([(MOVE_NUMBER, 0, 0, 0, 0), (EXIT, 0, 0, 0, 0)]);
    program
}

/// As the kernel reads it (`struct bpf_insn`), in this machine's order of bytes.
fn bytes(program: &[Instruction]) -> Vec<u8> {
    let one = |(code, source, destination, jump, number): &Instruction| {
        let mut bytes = [0; 8];
        bytes[0] = *code;
        // Two bit fields of four: the first one takes the lower half where bytes are little endian.
        bytes[1] = if cfg!(target_endian = "little") {
            source << 4 | destination
        } else {
            destination << 4 | source
        };
        bytes[2..4].copy_from_slice(&jump.to_ne_bytes());
        bytes[4..].copy_from_slice(&number.to_ne_bytes());
        bytes
    };
    program.iter().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use msb_agent::protocol::DeviceAccess;
    use proptest::prelude::*;

    use super::*;

    const READ: u8 = DeviceAccess::READ.bits();
    const WRITE: u8 = DeviceAccess::WRITE.bits();
    const MAKE: u8 = DeviceAccess::MAKE.bits();

    /// Runs a program as the kernel would, for one question.
    fn run(program: &[Instruction], kind: i32, access: u8, major: u32, minor: u32) -> bool {
        let mut registers = [0_u32; 6];
        let context = |offset: i16| match offset {
            ACCESS_TYPE => u32::from(access) << 16 | kind.cast_unsigned(),
            MAJOR => major,
            _ => minor,
        };
        let mut at = 0;
        loop {
            let (code, source, destination, jump, number) = program[at];
            let (source, to) = (registers[usize::from(source)], &mut registers[usize::from(destination)]);
            at += 1;
            match code {
                LOAD_32 => *to = context(jump),
                MOVE => *to = source,
                MOVE_NUMBER => *to = number.cast_unsigned(),
                AND_NUMBER => *to &= number.cast_unsigned(),
                SHIFT_RIGHT => *to >>= number,
                JUMP_IF_EQUAL if *to == number.cast_unsigned() => at += usize::try_from(jump).unwrap(),
                JUMP_IF_OTHER if *to != number.cast_unsigned() => at += usize::try_from(jump).unwrap(),
                JUMP_IF_EQUAL | JUMP_IF_OTHER => {}
                EXIT => return registers[0] != 0,
                other => panic!("{other:#x}"),
            }
        }
    }

    /// The same question by the words of the list.
    fn by_words(rules: &[DeviceRule], kind: i32, access: u8, major: u32, minor: u32) -> bool {
        [READ, WRITE, MAKE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let last = rules.iter().rev().find(|rule| {
                rule.access.bits() & bit != 0
                    && rule.kind.is_none_or(|wanted| match wanted {
                        DeviceKind::Block => kind == BLOCK,
                        DeviceKind::Char => kind == CHAR,
                        DeviceKind::Fifo => false,
                    })
                    && rule.major.is_none_or(|wanted| wanted == major)
                    && rule.minor.is_none_or(|wanted| wanted == minor)
            });
            last.is_some_and(|rule| rule.allow)
        })
    }

    fn rule() -> impl Strategy<Value = DeviceRule> {
        let kind = prop_oneof![
            Just(None),
            Just(Some(DeviceKind::Block)),
            Just(Some(DeviceKind::Char)),
            Just(Some(DeviceKind::Fifo))
        ];
        let number = || proptest::option::of(prop_oneof![0_u32..3, Just(u32::MAX)]);
        (any::<bool>(), kind, number(), number(), 0_u8..8).prop_map(|(allow, kind, major, minor, access)| {
            DeviceRule { allow, kind, major, minor, access: DeviceAccess::from_bits(access) }
        })
    }

    proptest! {
        #[test]
        fn the_program_does_what_the_list_says(
            rules in proptest::collection::vec(rule(), 0..12),
            kind in BLOCK..=CHAR, access in 1_u8..8, major in 0_u32..3, minor in prop_oneof![0_u32..3, Just(u32::MAX)],
        ) {
            let expected = by_words(&rules, kind, access, major, minor);
            prop_assert_eq!(run(&program(&rules), kind, access, major, minor), expected);
            if allow_all(&rules) {
                prop_assert!(expected);
            }
        }
    }

    #[test]
    fn a_program_is_as_the_kernel_reads_it() {
        assert_eq!(
            bytes(&program(&[])),
            [
                [0x61, 0x12, 0, 0, 0, 0, 0, 0],
                [0xbc, 0x23, 0, 0, 0, 0, 0, 0],
                [0x54, 0x02, 0, 0, 0xff, 0xff, 0, 0],
                [0x74, 0x03, 0, 0, 16, 0, 0, 0],
                [0x61, 0x14, 4, 0, 0, 0, 0, 0],
                [0x61, 0x15, 8, 0, 0, 0, 0, 0],
                [0xb7, 0x00, 0, 0, 0, 0, 0, 0],
                [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            ]
            .concat()
        );
    }
}
