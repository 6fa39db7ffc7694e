//! Decisions → a program: first the ABI, then a binary search for the call, then its rules.

use msb_agent::protocol::{Instruction, Seccomp};

use super::SeccompError;
use super::abi::{Abi, Family};
use super::decide::{Decision, FOREIGN, ranges};
use super::profile::{Comparison, Profile, Rule, Test};
use crate::bpf::{self, Compare, Label, Program, Target, offset};

/// The program of a profile for a kernel that has the ABIs of `family`.
///
/// # Errors
/// [`SeccompError::TooLong`].
pub fn compile(profile: &Profile, family: Family) -> Result<Vec<Instruction>, SeccompError> {
    let mut program = Program::default();
    let mut next = program.give(FOREIGN);
    // Backwards, so that the kernel's own ABI is asked for first.
    for (at, abi) in family.iter().enumerate().rev() {
        if at == 0 || profile.architectures.contains(&abi.name) {
            let mut parts = Vec::new();
            for (start, decision) in ranges(profile, abi) {
                let label = match decision {
                    Decision::Always(action) => Target::Give(action),
                    Decision::First(rules) => Target::To(first(&mut program, abi, &rules, profile.default)),
                };
                parts.push((start, label));
            }
            let tree = program.search(&parts);
            let section = program.load(offset::NUMBER, tree);
            next = program.compare(Compare::Equal, abi.audit, section, next);
        }
    }
    program.load(offset::ARCH, next);
    match program.length() {
        length if length > Seccomp::MAX_PROGRAM => {
            Err(SeccompError::TooLong { length, most: Seccomp::MAX_PROGRAM })
        }
        _ => Ok(program.finish().into_iter().map(instruction).collect()),
    }
}

fn instruction(of: bpf::Instruction) -> Instruction {
    let bpf::Instruction { code, jump_true, jump_false, k } = of;
    Instruction { code, jump_true, jump_false, k }
}

fn first(program: &mut Program, abi: &Abi, rules: &[Rule], default: u32) -> Label {
    let mut next = program.give(default);
    for rule in rules.iter().rev() {
        let mut holds = program.give(rule.action);
        for comparison in rule.comparisons.iter().rev() {
            holds = compare(program, abi, *comparison, holds, next);
        }
        next = holds;
    }
    next
}

fn compare(program: &mut Program, abi: &Abi, comparison: Comparison, yes: Label, no: Label) -> Label {
    let index = comparison.index;
    match comparison.test {
        Test::Equal { mask, value, not } => {
            let (yes, no) = if not { (no, yes) } else { (yes, no) };
            let low = equal(program, offset::low(index), halves(mask).1, halves(value).1, yes, no);
            if abi.wide {
                equal(program, offset::high(index), halves(mask).0, halves(value).0, low, no)
            } else {
                low
            }
        }
        Test::AtLeast { value, not } => ordered(program, abi, index, Compare::AtLeast, value, not, (yes, no)),
        Test::Above { value, not } => ordered(program, abi, index, Compare::Above, value, not, (yes, no)),
    }
}

/// One word under a mask; nothing at all to do where the mask is empty.
fn equal(program: &mut Program, offset: u32, mask: u32, value: u32, yes: Label, no: Label) -> Label {
    if mask == 0 {
        return yes;
    }
    let test = program.compare(Compare::Equal, value, yes, no);
    let masked = if mask == u32::MAX { test } else { program.mask(mask, test) };
    program.load(offset, masked)
}

/// The upper halves decide unless they are the same.
fn ordered(
    program: &mut Program,
    abi: &Abi,
    index: u8,
    compare: Compare,
    value: u64,
    not: bool,
    (yes, no): (Label, Label),
) -> Label {
    let (yes, no) = if not { (no, yes) } else { (yes, no) };
    let (high, low) = halves(value);
    let test = program.compare(compare, low, yes, no);
    let lower = program.load(offset::low(index), test);
    if !abi.wide {
        return lower;
    }
    let same = program.compare(Compare::Equal, high, lower, no);
    let test = program.compare(Compare::Above, high, yes, same);
    program.load(offset::high(index), test)
}

/// Upper and lower half.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
