//! Instructions of classic BPF, written from the end: a jump goes forward only, so its target is there already.

use std::collections::HashMap;

use msb_agent::protocol::Instruction;

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
