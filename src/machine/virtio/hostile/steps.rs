//! What a hostile driver does, one step at a time, and the same made of a fuzzer's bytes. It knows no device: the content
//! of requests is a seed, or bytes.

use arbitrary::{Arbitrary, Result, Unstructured};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// Bytes of guest memory.
pub(super) const MEMORY: u64 = 1 << 20;
/// Where the buffers of chains are; the rings and the tables lie below.
pub(super) const DATA: u64 = 0x8_0000;
/// Sizes of queues are powers of two; those of the devices end at 1,024.
pub(super) const MOST: u16 = 1024;

/// One buffer of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// From the device's reset to DRIVER_OK, with queues of these sizes (as a power of two) and at most these features, of the
    /// first 32, or as much of it as it lets.
    Start { sizes: [u8; 3], features: u32 },
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
    /// Another device of the kind comes into the slot, if that is empty.
    Plug,
    /// The device is taken out of its slot.
    Unplug,
}

/// All features but the event index.
pub(super) const NO_EVENT_INDEX: u32 = !(1 << VIRTIO_RING_F_EVENT_IDX);

/// Most steps of a fuzzer's driver, and most bytes of a request that it makes up.
const STEPS: usize = 80;
const REQUEST: usize = 96;

/// The driver that these bytes are: whatever they are, it is one.
pub(super) fn of_bytes(bytes: &[u8]) -> Vec<Step> {
    let mut from = Unstructured::new(bytes);
    let mut steps = vec![Step::Start { sizes: [4; 3], features: u32::MAX }];
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
        let kind = from.int_in_range(0..=25)?;
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
            23 => {
                let sizes = <[u8; 3]>::arbitrary(from)?.map(|power| power % 12);
                let features = match u8::arbitrary(from)? {
                    all @ ..128 if all & 1 == 0 => u32::MAX,
                    ..128 => NO_EVENT_INDEX,
                    _ => u32::arbitrary(from)?,
                };
                Self::Start { sizes, features }
            }
            24 => Self::Plug,
            _ => Self::Unplug,
        })
    }
}

/// The bytes that [`of_bytes`] makes these steps of, after the first, which is its own.
pub(super) fn to_bytes(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    steps.iter().for_each(|step| step.write(&mut bytes));
    bytes
}

impl Part {
    fn write(self, to: &mut Vec<u8>) {
        let place = self.address.wrapping_sub(DATA);
        match u16::try_from(place / 6) {
            Ok(place6) if place.is_multiple_of(6) => {
                to.push(0);
                to.extend(place6.to_le_bytes());
            }
            _ => {
                to.push(7);
                to.extend(self.address.to_le_bytes());
            }
        }
        match u8::try_from(self.length / 4) {
            Ok(fours) if self.length.is_multiple_of(4) => to.extend([0, fours]),
            _ => {
                to.push(7);
                to.extend(self.length.to_le_bytes());
            }
        }
        to.push(self.writable.into());
    }
}

impl Step {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Chain { queue, parts, indirect, seed, bytes } => {
                to.extend([0, *queue, u8::try_from(parts.len() - 1).unwrap()]);
                parts.iter().for_each(|part| part.write(to));
                let sorted = u8::from(parts.is_sorted_by_key(|part| part.writable));
                to.push(sorted | u8::from(!bytes.is_empty()) << 2 | u8::from(*indirect) << 3);
                if !bytes.is_empty() {
                    to.push(u8::try_from(bytes.len()).unwrap());
                    to.extend(bytes);
                }
                to.push(*seed);
            }
            Self::Kick { queue } => to.extend([9, *queue]),
            Self::Host { seed } => to.extend([16, 0, *seed]),
            Self::Descriptor { queue, at, address, length, flags, next } => {
                to.extend([18, *queue]);
                to.extend(at.to_le_bytes());
                // Its address is drawn as a part's is, whose other numbers are behind it.
                Part { address: *address, length: 0, writable: false }.write(to);
                to.extend(length.to_le_bytes());
                to.extend([*flags, *next].map(u16::to_le_bytes).as_flattened());
            }
            Self::Available { queue, more } => {
                to.extend([19, *queue]);
                to.extend(more.to_le_bytes());
            }
            Self::Entry { queue, at, head } => {
                to.extend([20, *queue]);
                to.extend([*at, *head].map(u16::to_le_bytes).as_flattened());
            }
            Self::Used { queue, index } => {
                to.extend([21, *queue]);
                to.extend(index.to_le_bytes());
            }
            Self::Register { offset, value, width } => {
                to.extend([22, 0]);
                match u8::try_from(*offset) {
                    Ok(offset @ ..0xf0) => to.push(offset),
                    _ => {
                        to.push(0xf0);
                        to.extend((offset - 0x100).to_le_bytes());
                    }
                }
                to.extend(value.to_le_bytes());
                to.push(width - 1);
            }
            Self::Start { sizes, features } => {
                to.extend([23, 0]);
                to.extend(sizes);
                to.push(128);
                to.extend(features.to_le_bytes());
            }
            Self::Plug => to.extend([24, 0]),
            Self::Unplug => to.extend([25, 0]),
        }
    }
}
