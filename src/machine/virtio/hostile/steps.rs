//! What a hostile driver does, one step at a time. It knows no device: the content of requests is a seed.

use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes of guest memory.
pub(super) const MEMORY: u64 = 1 << 20;
/// Where the buffers of chains are; the rings and the tables lie below.
pub(super) const DATA: u64 = 0x8_0000;
/// Sizes of queues are powers of two; those of the devices end at 1,024.
pub(super) const MOST: u16 = 1024;

/// One buffer of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// From the device's reset to DRIVER_OK, with queues of these sizes (as a power of two), or as much of it as it lets.
    Start { sizes: [u8; 3], event_index: bool },
    /// A chain as a driver makes them, in the queue's table or in one of its own; its readable buffers begin with what
    /// the device makes of that seed.
    Chain { queue: u8, parts: Vec<Part>, indirect: bool, seed: u8 },
    /// Any descriptor, at any place of the table.
    Descriptor { queue: u8, at: u16, address: u64, length: u32, flags: u16, next: u16 },
    /// The driver's index goes on by so many, of which it wrote none.
    Available { queue: u8, more: u16 },
    /// An entry of the driver's ring.
    Entry { queue: u8, at: u16, head: u16 },
    /// The device's own index, as it is in memory.
    Used { queue: u8, index: u16 },
    /// A kick, of a queue that there may not be.
    Kick { queue: u8 },
    /// Any register, in any width, and what is read there.
    Register { offset: u16, value: u32, width: u8 },
    /// Something happens on the host's side.
    Host { seed: u8 },
}

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

fn step() -> impl Strategy<Value = Step> {
    let small = || prop_oneof![8 => 0_u16..16, 1 => any::<u16>()];
    let register = prop_oneof![4 => (0_u16..0x40).prop_map(|word| word * 4), 1 => 0_u16..0x220];
    let value = prop_oneof![4 => 0_u32..16, 1 => 0_u32..1 << 20, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0_u16..8, 1 => any::<u16>()];
    let address = prop_oneof![6 => DATA..MEMORY, 2 => 0..DATA, 1 => any::<u64>()];
    prop_oneof![
        10 => (queue(), chain(), prop::bool::weighted(0.3), any::<u8>())
            .prop_map(|(queue, parts, indirect, seed)| Step::Chain { queue, parts, indirect, seed }),
        8 => queue().prop_map(|queue| Step::Kick { queue }),
        3 => any::<u8>().prop_map(|seed| Step::Host { seed }),
        1 => (queue(), small(), address, any::<u32>(), flags, small()).prop_map(
            |(queue, at, address, length, flags, next)| Step::Descriptor { queue, at, address, length, flags, next }
        ),
        1 => (queue(), small()).prop_map(|(queue, more)| Step::Available { queue, more }),
        1 => (queue(), small(), small()).prop_map(|(queue, at, head)| Step::Entry { queue, at, head }),
        1 => (queue(), small()).prop_map(|(queue, index)| Step::Used { queue, index }),
        1 => (register, value, 1_u8..9).prop_map(|(offset, value, width)| Step::Register { offset, value, width }),
        1 => ([0_u8..12, 0_u8..12, 0_u8..12], any::<bool>())
            .prop_map(|(sizes, event_index)| Step::Start { sizes, event_index }),
    ]
}

/// A driver, from a start that works mostly.
pub(super) fn drivers() -> impl Strategy<Value = Vec<Step>> {
    let start = ([3_u8..6, 3_u8..6, 3_u8..4], any::<bool>())
        .prop_map(|(sizes, event_index)| Step::Start { sizes, event_index });
    (start, vec(step(), 0..60)).prop_map(|(start, mut steps)| {
        steps.insert(0, start);
        steps
    })
}
