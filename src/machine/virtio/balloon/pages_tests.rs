//! Chains as a driver, good or bad, cuts them.

use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;

use super::*;
use crate::machine::virtio::test_support::chain;

const NUMBERS_AT: u64 = 0x8_0000;
const END: u64 = 4 << 20;

/// (address, length, writable)
type Part = (u64, u32, bool);

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20), (GuestAddress(8 << 20), 1 << 20)]).unwrap()
}

fn with_chain<T>(memory: &GuestMemoryMmap, parts: &[Part], parse: impl FnOnce(Chain<'_>) -> T) -> T {
    let mock = MockSplitQueue::new(memory, 512);
    let last = parts.len() - 1;
    let descriptors = parts.iter().enumerate().map(|(index, (address, length, writable))| {
        let write = if *writable { VRING_DESC_F_WRITE } else { 0 };
        let next = if index < last { VRING_DESC_F_NEXT } else { 0 };
        RawDescriptor::from(Descriptor::new(*address, *length, u16::try_from(write | next).unwrap(), 0))
    });
    parse(chain(memory, &mock, &descriptors.collect::<Vec<_>>()))
}

fn free(parts: &[Part]) -> Result<Vec<(u64, usize)>, DeviceError> {
    let memory = memory();
    let pages = with_chain(&memory, parts, |chain| reported(&memory, chain))?;
    Ok(pages.into_iter().map(|pages| (pages.start().0, pages.bytes())).collect())
}

fn given_up(numbers: &[u32], parts: &[Part]) -> Result<Vec<(u64, usize)>, DeviceError> {
    let memory = memory();
    for (index, number) in (0..).zip(numbers) {
        memory.write_obj(number.to_le(), GuestAddress(NUMBERS_AT + 4 * index)).unwrap();
    }
    let pages = with_chain(&memory, parts, |chain| numbered(&memory, chain))?;
    Ok(pages.into_iter().map(|pages| (pages.start().0, pages.bytes())).collect())
}

#[test]
fn numbers_in_a_row_are_one_range() {
    let numbers = [0x300, 0x301, 0x302, 0x200, 0x1ff, 0x1fe, 0x100, 0x8ff];
    let expected = [(0x30_0000, 3 << 12), (0x1f_e000, 3 << 12), (0x10_0000, 1 << 12), (0x8f_f000, 1 << 12)];
    assert_eq!(given_up(&numbers, &[(NUMBERS_AT, 32, false)]).unwrap(), expected);
    // Section 2.7.4: any cut of the same bytes is the same.
    let parts = [(NUMBERS_AT, 7, false), (NUMBERS_AT + 7, 0, false), (NUMBERS_AT + 7, 25, false)];
    assert_eq!(given_up(&numbers, &parts).unwrap(), expected);
    assert_eq!(given_up(&[], &[(NUMBERS_AT, 0, false)]).unwrap(), []);
}

#[test]
fn numbers_that_are_none_break_the_device() {
    let whole = [(NUMBERS_AT, 4, false)];
    for number in [0x400, 0x7ff, 0x900, u32::MAX] {
        assert!(matches!(given_up(&[number], &whole), Err(DeviceError::Chain { .. })), "{number:#x}");
    }
    // The first is inside, and the second only looks as if it went on.
    assert!(given_up(&[0x3ff, 0x400], &[(NUMBERS_AT, 8, false)]).is_err());
    assert!(given_up(&[u32::MAX, 0], &[(NUMBERS_AT, 8, false)]).is_err());
    let bad: [&[Part]; 7] = [
        &[(NUMBERS_AT, 3, false)],
        &[(NUMBERS_AT, 4, true)],
        &[(NUMBERS_AT, 4, false), (NUMBERS_AT, 4, true)],
        &[(NUMBERS_AT, 1028, false)],
        &[(NUMBERS_AT, 1024, false), (NUMBERS_AT, 4, false)],
        &[(NUMBERS_AT, u32::MAX, false)],
        &[(END - 2, 4, false)],
    ];
    for parts in bad {
        assert!(matches!(given_up(&[1], parts), Err(DeviceError::Chain { .. })), "{parts:?}");
    }
    assert!(given_up(&[1; 256], &[(NUMBERS_AT, 1024, false)]).is_ok());
}

#[test]
fn free_pages_are_the_buffers_themselves() {
    let parts = [(0x20_0000, 2 << 20, true), (0x1000, 4096, true), (0x80_0000, 1 << 20, true)];
    let expected = [(0x20_0000, 2 << 20), (0x1000, 4096), (0x80_0000, 1 << 20)];
    assert_eq!(free(&parts).unwrap(), expected);
    assert_eq!(free(&[(0, 4096, true); 32]).unwrap().len(), 32);
}

#[test]
fn free_pages_that_cannot_be_break_the_device() {
    let bad: [&[Part]; 9] = [
        &[(0x1000, 4096, false)],
        &[(0x1000, 0, true)],
        &[(0x1001, 4096, true)],
        &[(0x1000, 4095, true)],
        &[(0x1000, 4096, true), (END, 4096, true)],
        &[(END - 4096, 8192, true)],
        &[(!4095, 4096, true)],
        &[(0, !4095, true)],
        &[(0, 4096, true); 33],
    ];
    for parts in bad {
        assert!(matches!(free(parts), Err(DeviceError::Chain { .. })), "{parts:?}");
    }
}

proptest! {
    /// Whatever comes out is whole pages inside memory, and bounded.
    #[test]
    fn what_is_parsed_is_possible(
        parts in prop::collection::vec(
            (prop_oneof![(0_u64..0x1000).prop_map(|page| page << 12), any::<u64>()],
             prop_oneof![Just(4096_u32), Just(8), (0_u32..600).prop_map(|page| page << 12), any::<u32>()],
             prop::bool::weighted(0.8)), 1..40),
        numbers in prop::collection::vec(prop_oneof![0_u32..0x1000, any::<u32>()], 0..300),
    ) {
        let inside = |(start, bytes): &(u64, usize)| {
            let end = start + u64::try_from(*bytes).unwrap();
            start % 4096 == 0 && end % 4096 == 0 && *bytes > 0
                && (end <= END || *start >= 8 << 20 && end <= 9 << 20)
        };
        if let Ok(ranges) = free(&parts) {
            prop_assert!(ranges.len() <= 32 && ranges.iter().all(inside));
        }
        let length = u32::try_from(numbers.len() * 4).unwrap();
        if let Ok(ranges) = given_up(&numbers, &[(NUMBERS_AT, length, false)]) {
            prop_assert!(ranges.len() <= 256 && ranges.iter().all(inside));
            prop_assert_eq!(ranges.iter().map(|range| range.1).sum::<usize>(), numbers.len() * 4096);
        }
    }
}
