//! Drivers at random, for the tests.

use proptest::collection::vec;
use proptest::prelude::*;

use super::steps::{DATA, MEMORY, NO_EVENT_INDEX, Part, Step};

/// A queue: mostly one that there is.
fn queue() -> impl Strategy<Value = u8> {
    prop_oneof![12 => 0_u8..3, 1 => any::<u8>()]
}

fn part() -> impl Strategy<Value = Part> {
    let address = prop_oneof![
        24 => DATA..MEMORY - 0x1_2000,
        1 => MEMORY - 64..MEMORY + 64,
        1 => 0..DATA,
        1 => MEMORY..=u64::MAX,
    ];
    let length =
        prop_oneof![8 => 0_u32..600, 4 => Just(4096_u32), 2 => 60_000_u32..70_000, 1 => any::<u32>()];
    (address, length, any::<bool>()).prop_map(|(address, length, writable)| Part {
        address,
        length,
        writable,
    })
}

/// What devices expect: what is read before what is written.
fn chain() -> impl Strategy<Value = Vec<Part>> {
    (vec(part(), 1..5), prop::bool::weighted(0.8)).prop_map(|(mut parts, sorted)| {
        if sorted {
            parts.sort_by_key(|part| part.writable);
        }
        parts
    })
}

/// What a driver takes of the features: all, or only some.
fn features() -> impl Strategy<Value = u32> {
    prop_oneof![2 => Just(u32::MAX), 2 => Just(NO_EVENT_INDEX), 1 => any::<u32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let small = || prop_oneof![8 => 0_u16..16, 1 => any::<u16>()];
    let register = prop_oneof![4 => (0_u16..0x40).prop_map(|word| word * 4), 1 => 0_u16..0x220];
    let value = prop_oneof![4 => 0_u32..16, 1 => 0_u32..1 << 20, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0_u16..8, 1 => any::<u16>()];
    let address = prop_oneof![6 => DATA..MEMORY, 2 => 0..DATA, 1 => any::<u64>()];
    prop_oneof![
        10 => (queue(), chain(), prop::bool::weighted(0.3), any::<u8>())
            .prop_map(|(queue, parts, indirect, seed)| Step::Chain { queue, parts, indirect, seed, bytes: Vec::new() }),
        8 => queue().prop_map(|queue| Step::Kick { queue }),
        3 => any::<u8>().prop_map(|seed| Step::Host { seed }),
        1 => (queue(), small(), address, any::<u32>(), flags, small()).prop_map(
            |(queue, at, address, length, flags, next)| Step::Descriptor { queue, at, address, length, flags, next }
        ),
        1 => (queue(), small()).prop_map(|(queue, more)| Step::Available { queue, more }),
        1 => (queue(), small(), small()).prop_map(|(queue, at, head)| Step::Entry { queue, at, head }),
        1 => (queue(), small()).prop_map(|(queue, index)| Step::Used { queue, index }),
        1 => (register, value, 1_u8..9).prop_map(|(offset, value, width)| Step::Register { offset, value, width }),
        1 => ([0_u8..12, 0_u8..12, 0_u8..12], features())
            .prop_map(|(sizes, features)| Step::Start { sizes, features }),
        1 => any::<bool>().prop_map(|plug| if plug { Step::Plug } else { Step::Unplug }),
    ]
}

/// A driver, from a start that works mostly.
pub(super) fn drivers() -> impl Strategy<Value = Vec<Step>> {
    let start = ([3_u8..6, 3_u8..6, 3_u8..4], features())
        .prop_map(|(sizes, features)| Step::Start { sizes, features });
    (start, vec(step(), 0..60)).prop_map(|(start, mut steps)| {
        steps.insert(0, start);
        steps
    })
}
