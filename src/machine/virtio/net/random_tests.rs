//! Chains as no driver would build them, against what may come of them.

use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};

use super::tests::{interrupt, queue, received, tap};
use super::*;

/// (address, length, writable)
type Part = (u64, u32, bool);

/// Which chains were used, and what is in them.
type Used = Vec<(usize, Vec<u8>)>;

const SIZE: u64 = 1 << 18;
/// Below is the queue itself.
const FREE: u64 = 0x1000;
/// The buffers to receive into, each apart from the next.
const APART: u64 = 0x4000;
const QUEUE: u16 = 64;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(SIZE).unwrap())]).unwrap()
}

/// Descriptors of some chains, one behind the other.
fn descriptors(chains: &[Vec<Part>]) -> Vec<RawDescriptor> {
    let mut all = Vec::new();
    for chain in chains {
        for (at, (address, length, writable)) in chain.iter().enumerate() {
            let write = if *writable { VRING_DESC_F_WRITE } else { 0 };
            let next = if at + 1 < chain.len() { VRING_DESC_F_NEXT } else { 0 };
            let flags = u16::try_from(write | next).unwrap();
            let behind = u16::try_from(all.len() + 1).unwrap();
            all.push(RawDescriptor::from(Descriptor::new(*address, *length, flags, behind)));
        }
    }
    all
}

/// A byte that tells its address.
fn pattern(address: u64) -> u8 {
    (address % 251).to_le_bytes()[0]
}

/// What these buffers hold, or `None` where they are no frame.
fn frame(chain: &[Part]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (address, length, writable) in chain {
        let length = usize::try_from(*length).unwrap();
        let end = address.checked_add(length.try_into().unwrap());
        let inside = length == 0 || end.is_some_and(|end| end <= SIZE);
        if *writable || !inside || bytes.len() + length > MAX_FRAME {
            return None;
        }
        bytes.extend((*address..).take(length).map(pattern));
    }
    (bytes.len() > HEADER).then_some(bytes)
}

/// What came of some chains and frames.
fn filled(chains: &[Vec<Part>], frames: &[Vec<u8>], mergeable: bool) -> (Result<Filled, DeviceError>, Used) {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, QUEUE);
    if !chains.is_empty() {
        mock.add_desc_chains(&descriptors(chains), 0).unwrap();
    }
    let (tap, network) = tap();
    for frame in frames {
        network.send(frame).unwrap();
    }
    let came = Receive::new(queue(&mock), mergeable).fill(&memory, &interrupt(), &tap, None);
    let used = mock.used();
    let held = |at: u16| {
        let element = used.ring().ref_at(at.into()).unwrap().load();
        let head = usize::try_from(element.id()).unwrap();
        let mut left = usize::try_from(element.len()).unwrap();
        let mut bytes = Vec::new();
        for (address, length, _) in &chains[head_of(chains, head)] {
            let mut part = vec![0; left.min(usize::try_from(*length).unwrap())];
            memory.read_slice(&mut part, GuestAddress(*address)).unwrap();
            left -= part.len();
            bytes.extend(part);
        }
        assert_eq!(left, 0, "more than the chain holds");
        (head_of(chains, head), bytes)
    };
    (came, (0..used.idx().load()).map(held).collect())
}

/// Which chain begins with that descriptor.
fn head_of(chains: &[Vec<Part>], head: usize) -> usize {
    let mut first = 0;
    let found = chains.iter().position(|chain| {
        first += chain.len();
        first - chain.len() == head
    });
    found.expect("a head that the driver gave")
}

fn room(chain: &[Part]) -> usize {
    chain.iter().map(|(_, length, _)| usize::try_from(*length).unwrap()).sum()
}

fn any_part() -> impl Strategy<Value = Part> {
    let address = prop_oneof![8 => FREE..SIZE, 1 => SIZE - 64..SIZE + 64, 1 => SIZE..=u64::MAX];
    let length = prop_oneof![8 => 0_u32..1500, 2 => 60_000_u32..70_000, 1 => any::<u32>()];
    (address, length, prop::bool::weighted(0.05))
}

/// Chains of buffers of their own, most of them as they should be.
fn buffers() -> impl Strategy<Value = Vec<Vec<Part>>> {
    let length = prop_oneof![20 => 0x1000_u32..0x4000, 1 => 0_u32..16];
    let part = (length, prop::bool::weighted(0.98));
    prop::collection::vec(prop::collection::vec(part, 1..3), 0..8).prop_map(|chains| {
        let mut place = 0;
        let mut placed = |(length, writable): (u32, bool)| {
            place += APART;
            (place, length, writable)
        };
        chains.into_iter().map(|chain| chain.into_iter().map(&mut placed).collect()).collect()
    })
}

proptest! {
    /// Every chain comes back, and what is a frame is sent as it is, in order.
    #[test]
    fn what_is_sent_is_what_is_a_frame(
        chains in prop::collection::vec(prop::collection::vec(any_part(), 1..6), 1..4),
    ) {
        let memory = memory();
        let whole: Vec<u8> = (FREE..SIZE).map(pattern).collect();
        memory.write_slice(&whole, GuestAddress(FREE)).unwrap();
        let mock = MockSplitQueue::new(&memory, QUEUE);
        mock.add_desc_chains(&descriptors(&chains), 0).unwrap();
        let (tap, network) = tap();
        Transmit::new(queue(&mock)).take(&memory, &interrupt(), &tap, None).unwrap();
        prop_assert_eq!(usize::from(mock.used().idx().load()), chains.len());
        let expected: Vec<Vec<u8>> = chains.iter().filter_map(|chain| frame(chain)).collect();
        prop_assert_eq!(received(&network), expected);
    }

    /// Frames come whole and in order, in as many chains as they need, or the queue is broken and says so.
    #[test]
    fn what_is_received_is_what_came(
        chains in buffers(),
        frames in prop::collection::vec((HEADER..9000, any::<u8>()), 0..4),
        mergeable in any::<bool>(),
    ) {
        let frames: Vec<Vec<u8>> = frames.into_iter().map(|(length, byte)| vec![byte; length]).collect();
        let (came, used) = filled(&chains, &frames, mergeable);
        prop_assert!(used.iter().map(|(chain, _)| *chain).eq(0..used.len()), "in the driver's order");
        let (mut at, mut delivered) = (0, 0);
        while at < used.len() {
            let first = &used[at].1;
            let count = u16::from_le_bytes([first[10], first[11]]);
            let parts = &used[at..at + usize::from(count)];
            let mut expected = frames[delivered].clone();
            expected[10..12].copy_from_slice(&count.to_le_bytes());
            if !mergeable {
                prop_assert_eq!(count, 1);
                expected.truncate(room(&chains[at]));
            }
            prop_assert_eq!(parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>(), expected);
            (at, delivered) = (at + parts.len(), delivered + 1);
        }
        let rest = &chains[used.len()..];
        match came {
            Ok(filled) => {
                prop_assert_eq!(filled, Filled::AsFarAsPossible);
                let left: usize = rest.iter().map(|chain| room(chain)).sum();
                let none = if mergeable { left < MAX_FRAME } else { rest.is_empty() };
                prop_assert!(none || delivered == frames.len(), "{left} bytes of room, and frames that wait");
            }
            Err(DeviceError::Chain { .. }) => prop_assert!(
                rest.iter().any(|chain| room(chain) < HEADER || chain.iter().any(|part| !part.2)),
                "nothing is wrong with {rest:?}"
            ),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    /// Whatever is in the descriptor table: an error or not, and never more used than given.
    #[test]
    fn any_table_is_survived(
        table in prop::collection::vec((any_part(), any::<u16>(), 0_u16..QUEUE + 2), 1..16), mergeable in any::<bool>(),
    ) {
        let memory = memory();
        let (tap, network) = tap();
        for transmit in [true, false] {
            let mock = MockSplitQueue::new(&memory, QUEUE);
            for (at, ((address, length, _), flags, next)) in (0_u16..).zip(&table) {
                let descriptor = Descriptor::new(*address, *length, *flags, *next);
                mock.desc_table().store(at, RawDescriptor::from(descriptor)).unwrap();
                mock.avail().ring().ref_at(at.into()).unwrap().store(at);
            }
            let given = u16::try_from(table.len()).unwrap();
            mock.avail().idx().store(given);
            network.send(&[1; 64]).unwrap();
            if transmit {
                let _ = Transmit::new(queue(&mock)).take(&memory, &interrupt(), &tap, None);
            } else {
                let _ = Receive::new(queue(&mock), mergeable).fill(&memory, &interrupt(), &tap, None);
            }
            received(&network);
        }
    }
}
