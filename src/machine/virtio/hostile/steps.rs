//! What a hostile driver does, one step at a time, and the same made of a fuzzer's bytes. It knows no device: the content
//! of requests is a seed, or bytes.

use arbitrary::{Arbitrary, Result, Unstructured};

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
    /// the device makes of that seed, or with these bytes if there are any.
    Chain { queue: u8, parts: Vec<Part>, indirect: bool, seed: u8, bytes: Vec<u8> },
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

/// Most steps of a fuzzer's driver, and most bytes of a request that it makes up.
const STEPS: usize = 80;
const REQUEST: usize = 96;

/// The driver that these bytes are: whatever they are, it is one.
pub(super) fn of_bytes(bytes: &[u8]) -> Vec<Step> {
    let mut from = Unstructured::new(bytes);
    let mut steps = vec![Step::Start { sizes: [4; 3], event_index: true }];
    while !from.is_empty() && steps.len() < STEPS {
        steps.extend(Step::arbitrary(&mut from));
    }
    steps
}

impl<'a> Arbitrary<'a> for Part {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let address = match from.int_in_range(0..=7)? {
            0..=4 => DATA + u64::from(u16::arbitrary(from)?) * 6,
            5 => MEMORY - 64 + u64::from(u8::arbitrary(from)? & 127),
            6 => u64::from(u32::arbitrary(from)?) % DATA,
            _ => u64::arbitrary(from)?,
        };
        let length = match from.int_in_range(0..=7)? {
            0..=4 => u32::from(u8::arbitrary(from)?) * 4,
            5 => 4096,
            6 => u32::from(u16::arbitrary(from)?) + 8192,
            _ => u32::arbitrary(from)?,
        };
        Ok(Self { address, length, writable: bool::arbitrary(from)? })
    }
}

/// A number below 16, or any.
fn small(from: &mut Unstructured<'_>) -> Result<u16> {
    let value = u16::arbitrary(from)?;
    Ok(if value & 0x7000 == 0 { value } else { value & 15 })
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let kind = from.int_in_range(0..=23)?;
        let queue = match u8::arbitrary(from)? {
            few @ ..240 => few % 3,
            any => any,
        };
        Ok(match kind {
            0..=8 => {
                let count = from.int_in_range(1..=5)?;
                let mut parts = (0..count).map(|_| Part::arbitrary(from)).collect::<Result<Vec<_>>>()?;
                let kind = u8::arbitrary(from)?;
                if kind & 3 != 0 {
                    parts.sort_by_key(|part| part.writable);
                }
                let bytes = if kind & 4 == 0 {
                    Vec::new()
                } else {
                    let length = usize::from(u8::arbitrary(from)?) % REQUEST;
                    from.bytes(length.min(from.len()))?.to_vec()
                };
                Self::Chain { queue, parts, indirect: kind & 8 != 0, seed: u8::arbitrary(from)?, bytes }
            }
            9..=15 => Self::Kick { queue },
            16..=17 => Self::Host { seed: u8::arbitrary(from)? },
            18 => Self::Descriptor {
                queue,
                at: small(from)?,
                address: Part::arbitrary(from)?.address,
                length: u32::arbitrary(from)?,
                flags: small(from)?,
                next: small(from)?,
            },
            19 => Self::Available { queue, more: small(from)? },
            20 => Self::Entry { queue, at: small(from)?, head: small(from)? },
            21 => Self::Used { queue, index: small(from)? },
            22 => {
                let offset = u16::from(u8::arbitrary(from)?);
                let offset = if offset < 0xf0 { offset & !3 } else { 0x100 + small(from)? };
                Self::Register { offset, value: u32::arbitrary(from)?, width: from.int_in_range(1..=8)? }
            }
            _ => {
                let sizes = <[u8; 3]>::arbitrary(from)?.map(|power| power % 12);
                Self::Start { sizes, event_index: bool::arbitrary(from)? }
            }
        })
    }
}
