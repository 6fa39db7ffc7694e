//! Rules by name → what happens for each range of numbers in one ABI.

use std::collections::BTreeMap;

use oci_spec::runtime::Arch;

use super::abi::Abi;
use super::profile::{Comparison, Profile, Rule, Test};

/// First number of x32 (`__X32_SYSCALL_BIT`, asm/unistd.h).
const X32: u32 = 0x4000_0000;

/// For an ABI that the profile does not list, as libseccomp has it.
pub const FOREIGN: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// A call that this kernel has not.
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();

/// What happens with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// `SECCOMP_RET_*`, whatever the arguments are.
    Always(u32),
    /// The first rule that holds, or the default.
    First(Vec<Rule>),
}

/// Decisions from a number on, up to the next one's; the first is 0, and no two neighbours are the same.
pub type Ranges = Vec<(u32, Decision)>;

/// All numbers of `abi`.
pub fn ranges(profile: &Profile, abi: &Abi) -> Ranges {
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let mut last = None;
    for call in &profile.calls {
        if let Some(number) = (abi.number)(&call.name) {
            last = last.max(Some(number));
            calls.entry(number).or_default().extend(call.rules.iter().cloned());
        }
        let through = (abi.multiplexed)(&call.name);
        if let Some((number, value)) = through.and_then(|(name, value)| Some(((abi.number)(name)?, value))) {
            let unconditional = call.rules.iter().filter(|rule| rule.comparisons.is_empty());
            let test = Test::Equal { mask: u64::MAX, value, not: false };
            calls.entry(number).or_default().extend(
                unconditional.map(|rule| Rule {
                    comparisons: vec![Comparison { index: 0, test }],
                    action: rule.action,
                }),
            );
        }
    }
    let mut ranges: Ranges = Vec::new();
    let mut add = |start, decision| {
        // Nothing lies between a call and the next number.
        ranges.pop_if(|(before, _)| *before == start);
        if ranges.last().is_none_or(|(_, before)| *before != decision) {
            ranges.push((start, decision));
        }
    };
    let default = Decision::Always(profile.default);
    add(0, default.clone());
    for (number, rules) in calls {
        if !rules.is_empty() {
            add(number, decision(rules));
            add(number + 1, default.clone());
        }
    }
    let newer = if profile.permissive { default } else { Decision::Always(ENOSYS) };
    if let Some(last) = last {
        add(last + 1, newer.clone());
    }
    if abi.has_x32 {
        let listed = profile.architectures.contains(&Arch::ScmpArchX32);
        add(X32, Decision::Always(if listed { ENOSYS } else { FOREIGN }));
        // -1 is what a tracer leaves of a call that it suppressed.
        add(u32::MAX, newer);
    }
    ranges
}

/// A rule without comparisons beats those with.
fn decision(rules: Vec<Rule>) -> Decision {
    match rules.iter().find(|rule| rule.comparisons.is_empty()) {
        Some(rule) => Decision::Always(rule.action),
        None => Decision::First(rules),
    }
}
