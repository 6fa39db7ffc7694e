//! Requests as a driver, good or bad, cuts them.

use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;

use super::*;
use crate::machine::virtio::test_support::chain;

const LIMITS: Limits = Limits { sectors: 100, read_only: false };
const HEADER_AT: u64 = 0x8_0000;
const DATA_AT: u64 = 0x9_0000;
const STATUS_AT: u64 = 0xa_0000;

/// (address, length, writable)
type Part = (u64, u32, bool);

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
}

fn put_header(memory: &GuestMemoryMmap, kind: u32, sector: u64) {
    memory.write_obj(kind, GuestAddress(HEADER_AT)).unwrap();
    memory.write_obj(sector, GuestAddress(HEADER_AT + 8)).unwrap();
}

fn parse<'m>(
    memory: &'m GuestMemoryMmap,
    parts: &[Part],
    limits: Limits,
) -> Result<Request<'m>, DeviceError> {
    // The chain borrows from its queue.
    let mock = Box::leak(Box::new(MockSplitQueue::new(memory, 256)));
    let last = parts.len() - 1;
    let descriptors = parts.iter().enumerate().map(|(index, (address, length, writable))| {
        let write = if *writable { VRING_DESC_F_WRITE } else { 0 };
        let next = if index < last { VRING_DESC_F_NEXT } else { 0 };
        RawDescriptor::from(Descriptor::new(*address, *length, u16::try_from(write | next).unwrap(), 0))
    });
    Request::parse(memory, chain(memory, mock, &descriptors.collect::<Vec<_>>()), limits)
}

fn classic(data: u32, writable: bool) -> [Part; 3] {
    [(HEADER_AT, 16, false), (DATA_AT, data, writable), (STATUS_AT, 1, true)]
}

#[test]
fn a_read_names_its_buffers_and_its_status() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_IN, 2);
    let request = parse(&memory, &classic(1024, true), LIMITS).unwrap();
    let Action::Read { offset: 1024, buffers } = &request.action else { panic!("{request:?}") };
    assert_eq!(buffers.iter().map(VolatileSlice::len).collect::<Vec<_>>(), [1024]);
    assert_eq!((request.status, request.writable), (GuestAddress(STATUS_AT), 1025));
}

#[test]
fn what_counts_for_a_limit() {
    let range = |length| Action::Discard { offset: 0, length }.bytes();
    assert_eq!((range(1 << 30), range(1 << 20), range(512)), (4 << 20, 4096, 2));
    for unmap in [false, true] {
        assert_eq!(Action::WriteZeroes { offset: 0, length: 1 << 20, unmap }.bytes(), 1 << 20);
    }
    assert_eq!((Action::Flush.bytes(), Action::Answer(0).bytes()), (0, 0));
}

#[test]
fn section_2_7_4_any_cut_of_the_same_bytes_is_the_same_request() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_OUT, 3);
    let parts =
        [(HEADER_AT, 7, false), (HEADER_AT + 7, 9 + 100, false), (DATA_AT, 412, false), (STATUS_AT, 1, true)];
    let request = parse(&memory, &parts, LIMITS).unwrap();
    let Action::Write { offset: 1536, buffers } = &request.action else { panic!("{request:?}") };
    assert_eq!(buffers.iter().map(VolatileSlice::len).collect::<Vec<_>>(), [100, 412]);
    put_header(&memory, VIRTIO_BLK_T_IN, 3);
    let request = parse(&memory, &[(HEADER_AT, 16, false), (DATA_AT, 513, true)], LIMITS).unwrap();
    let Action::Read { buffers, .. } = &request.action else { panic!("{request:?}") };
    assert_eq!((total(buffers), request.status.0, request.writable), (512, DATA_AT + 512, 513));
}

#[test]
fn beyond_the_end_or_not_whole_sectors_is_an_io_error() {
    let memory = memory();
    for (kind, writable) in [(VIRTIO_BLK_T_IN, true), (VIRTIO_BLK_T_OUT, false)] {
        for (sector, length) in [
            (100, 512),
            (99, 1024),
            (u64::MAX, 512),
            (u64::MAX / 512 + 1, 512),
            (1 << 55, 512),
            (0, 511),
            (0, 513),
        ] {
            put_header(&memory, kind, sector);
            let request = parse(&memory, &classic(length, writable), LIMITS).unwrap();
            assert!(matches!(request.action, Action::Answer(VIRTIO_BLK_S_IOERR)), "{kind} {sector} {length}");
        }
        put_header(&memory, kind, 99);
        let request = parse(&memory, &classic(512, writable), LIMITS).unwrap();
        assert!(!matches!(request.action, Action::Answer(_)));
        // The data in the wrong direction.
        put_header(&memory, kind, 0);
        let request = parse(&memory, &classic(512, !writable), LIMITS).unwrap();
        assert!(matches!(request.action, Action::Answer(VIRTIO_BLK_S_IOERR)));
    }
}

#[test]
fn a_read_only_disk_refuses_what_changes_it() {
    let memory = memory();
    let limits = Limits { read_only: true, ..LIMITS };
    for kind in [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        put_header(&memory, kind, 0);
        let request = parse(&memory, &classic(512, false), limits).unwrap();
        assert!(matches!(request.action, Action::Answer(VIRTIO_BLK_S_IOERR)));
    }
}

#[test]
fn ranges_are_checked_like_data() {
    let memory = memory();
    let ask = |kind, sector: u64, sectors: u32, flags: u32, length: u32| {
        put_header(&memory, kind, 0);
        memory.write_obj(sector, GuestAddress(DATA_AT)).unwrap();
        memory.write_obj(sectors, GuestAddress(DATA_AT + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(DATA_AT + 12)).unwrap();
        parse(&memory, &classic(length, false), LIMITS).unwrap().action
    };
    let (discard, zeroes) = (VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES);
    assert!(matches!(ask(discard, 4, 8, 0, 16), Action::Discard { offset: 2048, length: 4096 }));
    let expected = Action::WriteZeroes { offset: 2048, length: 4096, unmap: true };
    assert_eq!(format!("{:?}", ask(zeroes, 4, 8, 1, 16)), format!("{expected:?}"));
    assert!(matches!(ask(discard, 4, 8, 1, 16), Action::Answer(VIRTIO_BLK_S_UNSUPP)));
    assert!(matches!(ask(zeroes, 4, 8, 2, 16), Action::Answer(VIRTIO_BLK_S_UNSUPP)));
    for (sector, sectors, length) in
        [(99, 2, 16), (u64::MAX, 1, 16), (0, u32::MAX, 16), (0, 0, 16), (0, 1, 15), (0, 1, 32)]
    {
        assert!(matches!(ask(discard, sector, sectors, 0, length), Action::Answer(VIRTIO_BLK_S_IOERR)));
    }
}

#[test]
fn an_unknown_request_is_answered_so() {
    let memory = memory();
    for kind in [2, 3, 9, u32::MAX] {
        put_header(&memory, kind, 0);
        let request = parse(&memory, &classic(512, true), LIMITS).unwrap();
        assert!(matches!(request.action, Action::Answer(VIRTIO_BLK_S_UNSUPP)));
    }
}

#[test]
fn a_chain_without_an_answer_is_an_error() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_IN, 0);
    let bad: [&[Part]; 7] = [
        &[(HEADER_AT, 16, false)],
        &[(HEADER_AT, 15, false), (STATUS_AT, 1, true)],
        &[(STATUS_AT, 1, true)],
        &[(HEADER_AT, 16, false), (1 << 40, 1, true)],
        &[(HEADER_AT, 16, false), (u64::MAX, 1, true)],
        &[(HEADER_AT, 16, false), (STATUS_AT, 0, true)],
        &[(STATUS_AT, 1, true), (HEADER_AT, 16, false)],
    ];
    for parts in bad {
        assert!(matches!(parse(&memory, parts, LIMITS), Err(DeviceError::Chain { .. })), "{parts:?}");
    }
    let many = std::iter::once((HEADER_AT, 16, false)).chain((0..256).map(|_| (DATA_AT, 512, true)));
    // The mock's queue holds 255 of them; the bound counts all.
    let many = many.take(255).chain([(DATA_AT, 2, true)]).collect::<Vec<_>>();
    assert!(parse(&memory, &many[..200], LIMITS).is_ok());
}

#[test]
fn data_outside_of_memory_is_answered_when_the_status_is_inside() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_IN, 0);
    let parts = [(HEADER_AT, 16, false), ((1 << 20) - 256, 512, true), (STATUS_AT, 1, true)];
    let request = parse(&memory, &parts, LIMITS).unwrap();
    assert!(matches!(request.action, Action::Answer(VIRTIO_BLK_S_IOERR)));
}

proptest! {
    /// Whatever comes out of the parser is inside the disk and inside memory.
    #[test]
    fn what_is_parsed_is_possible(
        kind in prop_oneof![0_u32..16, any::<u32>()],
        sector in prop_oneof![0_u64..120, any::<u64>()],
        parts in prop::collection::vec(
            (prop_oneof![0x8_0000_u64..0xb_0000, any::<u64>()],
             prop_oneof![Just(1_u32), Just(16), Just(512), 0_u32..5000, any::<u32>()], any::<bool>()), 1..8),
        ordered in any::<bool>(),
        read_only in any::<bool>(),
    ) {
        let memory = memory();
        put_header(&memory, kind, sector);
        let mut parts = parts;
        if ordered {
            parts.sort_by_key(|part| part.2);
            parts.insert(0, (HEADER_AT, 16, false));
        }
        if let Ok(request) = parse(&memory, &parts, Limits { sectors: 100, read_only }) {
            prop_assert!(memory.write_obj(0_u8, request.status).is_ok());
            let (offset, length) = match &request.action {
                Action::Read { offset, buffers } => (*offset, total(buffers)),
                Action::Write { offset, buffers } => {
                    prop_assert!(!read_only);
                    (*offset, total(buffers))
                }
                Action::Discard { offset, length } | Action::WriteZeroes { offset, length, .. } => {
                    prop_assert!(!read_only);
                    (*offset, *length)
                }
                Action::Id { buffers } => {
                    prop_assert_eq!(total(buffers), 20);
                    (0, 512)
                }
                Action::Flush | Action::Answer(_) => (0, 512),
            };
            prop_assert!(length > 0 && offset % 512 == 0 && length % 512 == 0 && offset + length <= 51200);
        }
    }
}
