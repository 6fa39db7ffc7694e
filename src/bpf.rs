//! Programs of classic BPF as seccomp(2) takes them, for the container's filter in the guest (`config::seccomp`) and for the
//! VMM's own on the host (`machine::seccomp`).
//!
//! Enters: instructions from the last to the first, since a jump goes forward only and its target is then there already.
//! Leaves: a program. It must never know which calls are allowed, or who loads it.

use std::collections::HashMap;

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub mod offset {
    /// The system call's number.
    pub const NUMBER: u32 = 0;
    /// `AUDIT_ARCH_*`, the ABI that it was made by.
    pub const ARCH: u32 = 4;
    /// Lower half of an argument; all our architectures are little endian.
    pub const fn low(argument: u8) -> u32 {
        16 + 8 * argument as u32
    }
    /// Upper half of an argument.
    pub const fn high(argument: u8) -> u32 {
        low(argument) + 4
    }
}

/// `AUDIT_ARCH_*` (linux/audit.h): the ELF machine, whether it has 64 bits, little endian.
pub mod audit {
    /// `AUDIT_ARCH_X86_64`
    pub const X86_64: u32 = 0xc000_003e;
    /// `AUDIT_ARCH_I386`
    pub const I386: u32 = 0x4000_0003;
    /// `AUDIT_ARCH_AARCH64`
    pub const AARCH64: u32 = 0xc000_00b7;
    /// `AUDIT_ARCH_ARM`
    pub const ARM: u32 = 0x4000_0028;
}

/// `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// `BPF_*` of linux/bpf_common.h, as far as seccomp(2) takes them.
mod code {
    const LD: u16 = 0x00;
    const ALU: u16 = 0x04;
    const JMP: u16 = 0x05;
    const ABS: u16 = 0x20;

    pub const LOAD: u16 = LD | ABS;
    pub const AND: u16 = ALU | 0x50;
    pub const JUMP: u16 = JMP;
    pub const EQUAL: u16 = JMP | 0x10;
    pub const ABOVE: u16 = JMP | 0x20;
    pub const AT_LEAST: u16 = JMP | 0x30;
    pub const RETURN: u16 = 0x06;
}

/// Farthest target that is jumped to directly. A jump's offset has 8 bits, and one more instruction may come between.
const NEAR: usize = 250;

/// A comparison of the accumulator.
#[derive(Debug, Clone, Copy)]
pub enum Compare {
    /// `==`
    Equal,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// An instruction, by its distance from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Where a range of numbers leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the end, with this.
    Give(u32),
    /// To more instructions.
    To(Label),
}

/// A program from some instruction to its end.
#[derive(Debug, Default)]
pub struct Program {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The latest return of each value.
    returns: HashMap<u32, Label>,
}

impl Program {
    /// Ends with `value`.
    pub fn give(&mut self, value: u32) -> Label {
        if let Some(label) = self.returns.get(&value).filter(|label| self.distance(**label) < NEAR / 2) {
            return *label;
        }
        let label = self.push(code::RETURN, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// Loads the word at `offset` of `seccomp_data`; what is next is `next`.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.follow(next);
        self.push(code::LOAD, 0, 0, offset)
    }

    /// Leaves only the bits of `mask`; what is next is `next`.
    pub fn mask(&mut self, mask: u32, next: Label) -> Label {
        self.follow(next);
        self.push(code::AND, 0, 0, mask)
    }

    /// Goes to one of two places.
    pub fn compare(&mut self, compare: Compare, value: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let code = match compare {
            Compare::Equal => code::EQUAL,
            Compare::Above => code::ABOVE,
            Compare::AtLeast => code::AT_LEAST,
        };
        let [yes, no] =
            [yes, no].map(|label| u8::try_from(self.distance(label)).expect("`near` has seen to it"));
        self.push(code, yes, no, value)
    }

    /// A binary search for the accumulator among ranges: from each number on, up to the next one's. The first begins with 0.
    pub fn search(&mut self, ranges: &[(u32, Target)]) -> Label {
        match ranges {
            [(_, Target::Give(value))] => self.give(*value),
            [(_, Target::To(label))] => *label,
            _ => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                let start = right[0].0;
                let right = self.search(right);
                let left = self.search(left);
                self.compare(Compare::AtLeast, start, right, left)
            }
        }
    }

    /// How many instructions there are.
    pub fn length(&self) -> usize {
        self.reversed.len()
    }

    /// From the instruction written last.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jump_true, jump_false, k });
        Label(self.reversed.len() - 1)
    }

    /// Instructions between the next one and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    /// The next instruction goes on at `next`.
    fn follow(&mut self, next: Label) {
        if self.distance(next) > 0 {
            self.jump(next);
        }
    }

    /// `label`, or a jump there if it is too far.
    fn near(&mut self, label: Label) -> Label {
        if self.distance(label) < NEAR { label } else { self.jump(label) }
    }

    fn jump(&mut self, label: Label) -> Label {
        let distance = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        self.push(code::JUMP, 0, 0, distance)
    }
}

/// What the kernel does with a program, for the tests of those who write some.
#[cfg(test)]
pub mod simulated {
    use super::Instruction;

    /// `struct seccomp_data`, without the instruction pointer.
    #[derive(Debug, Clone, Copy)]
    pub struct Data {
        /// The system call's number.
        pub number: u32,
        /// `AUDIT_ARCH_*`
        pub audit: u32,
        /// Of the call.
        pub arguments: [u64; 6],
    }

    /// Runs a program as `__seccomp_filter` does, refusing what `seccomp_check_filter` refuses; what it gives, and after how
    /// many instructions.
    pub fn run(program: &[Instruction], data: Data) -> (u32, usize) {
        let mut bytes = [data.number.to_le_bytes(), data.audit.to_le_bytes(), [0; 4], [0; 4]].concat();
        data.arguments.iter().for_each(|argument| bytes.extend(argument.to_le_bytes()));
        let (mut at, mut steps, mut a) = (0, 0, 0_u32);
        loop {
            let Instruction { code, jump_true, jump_false, k } = program[at];
            at += 1;
            steps += 1;
            let jump = |holds| usize::from(if holds { jump_true } else { jump_false });
            match code {
                0x20 => {
                    assert_eq!(k % 4, 0);
                    let start = usize::try_from(k).unwrap();
                    a = u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap());
                }
                0x54 => a &= k,
                0x05 => at += usize::try_from(k).unwrap(),
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x06 => return (k, steps),
                code => panic!("seccomp does not take {code:#x}"),
            }
        }
    }
}
