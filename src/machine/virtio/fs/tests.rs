use std::io::Write as _;
use std::sync::Arc;

use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::Queue;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::test_support::chain;
use super::super::window::Window;
use super::super::worker::Served;
use super::*;

const REQUEST: u64 = 0x1_0000;
const ANSWER: u64 = 0x2_0000;
/// `FUSE_GETATTR`, whatever: only the number of the request comes back.
const UNIQUE: u64 = 0x1234_5678_9abc;

fn buffer(address: u64, length: u32, flags: u32) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, length, u16::try_from(flags).unwrap(), 0))
}

fn memory() -> GuestMemoryMmap {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let mut header = Vec::new();
    header.write_all(&40_u32.to_le_bytes()).unwrap();
    header.write_all(&3_u32.to_le_bytes()).unwrap();
    header.write_all(&UNIQUE.to_le_bytes()).unwrap();
    header.resize(40, 0);
    memory.write_slice(&header, GuestAddress(REQUEST)).unwrap();
    memory
}

/// One chain over the mock's queue; what `refuse` makes of it.
fn refused(descriptors: &[RawDescriptor]) -> (GuestMemoryMmap, Result<Served, DeviceError>) {
    let memory = memory();
    let result = {
        let mock = MockSplitQueue::new(&memory, 16);
        orphan::refuse(&memory, chain(&memory, &mock, descriptors))
    };
    (memory, result)
}

#[test]
fn tag_is_of_1_to_36_bytes() {
    let stream = || UnixStream::pair().unwrap().0;
    let fs = Fs::new("volumes", stream()).unwrap();
    assert_eq!(&fs.config()[..8], b"volumes\0");
    assert_eq!(fs.config()[36..], [1, 0, 0, 0]);
    assert!(matches!(Fs::new("", stream()), Err(FsError::Tag { .. })));
    assert!(matches!(Fs::new(&"x".repeat(37), stream()), Err(FsError::Tag { .. })));
}

#[test]
fn an_orphaned_request_is_answered_by_its_number() {
    let (memory, served) = refused(&[
        buffer(REQUEST, 24, VRING_DESC_F_NEXT),
        buffer(REQUEST + 24, 40, VRING_DESC_F_NEXT),
        // The answer's header need not be in one piece.
        buffer(ANSWER, 8, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT),
        buffer(ANSWER + 8, 100, VRING_DESC_F_WRITE),
    ]);
    assert_eq!(served.unwrap(), Served::Now(16));
    assert_eq!(memory.read_obj::<u32>(GuestAddress(ANSWER)).unwrap(), 16);
    assert_eq!(memory.read_obj::<i32>(GuestAddress(ANSWER + 4)).unwrap(), -libc::ENOTCONN);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(ANSWER + 8)).unwrap(), UNIQUE);
}

#[test]
fn a_request_that_wants_no_answer_gets_none() {
    let (_, served) = refused(&[buffer(REQUEST, 48, 0)]);
    assert_eq!(served.unwrap(), Served::Now(0));
}

#[test]
fn nonsense_breaks_the_device_and_nothing_else() {
    let short = [buffer(REQUEST, 39, VRING_DESC_F_NEXT), buffer(ANSWER, 64, VRING_DESC_F_WRITE)];
    let outside = [buffer(0x1000_0000, 64, VRING_DESC_F_NEXT), buffer(ANSWER, 64, VRING_DESC_F_WRITE)];
    let nowhere = [buffer(REQUEST, 64, VRING_DESC_F_NEXT), buffer(0x1000_0000, 64, VRING_DESC_F_WRITE)];
    for chain in [&short, &outside, &nowhere] {
        assert!(matches!(refused(chain).1, Err(DeviceError::Chain { .. })));
    }
}

#[test]
fn a_lost_back_end_leaves_its_queue_where_it_stopped() {
    let memory = memory();
    let mock = MockSplitQueue::new(&memory, 16);
    let next = |address, length, flags: u32, next| {
        RawDescriptor::from(Descriptor::new(address, length, u16::try_from(flags).unwrap(), next))
    };
    // Two requests, of which the back end has returned one.
    let chains = [
        next(REQUEST, 40, VRING_DESC_F_NEXT, 1),
        next(ANSWER + 64, 64, VRING_DESC_F_WRITE, 0),
        next(REQUEST, 40, VRING_DESC_F_NEXT, 3),
        next(ANSWER, 64, VRING_DESC_F_WRITE, 0),
    ];
    mock.add_desc_chains(&chains, 0).unwrap();
    mock.used().idx().store(1);
    let queue: Queue = mock.create_queue().unwrap();
    let (fd, kick) = (EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap());
    let (socket, _other) = UnixStream::pair().unwrap();
    let watcher = Watcher::new(Arc::new(Epoll::new().unwrap()), 0);
    watcher.watch(socket.as_fd(), SOCKET, EventSet::READ_HANG_UP).unwrap();
    let interrupt = Interrupt::new(fd, Window::apart().unwrap());
    let queues = vec![DeviceQueue::new(queue, kick, 0)];
    let running = Running { socket, memory: memory.clone(), queues, interrupt: interrupt.clone(), watcher };
    let stream = UnixStream::pair().unwrap().0;
    let mut fs = Fs::new("volumes", stream).unwrap();
    fs.running = Some(running);
    fs.handle(Token::Source { id: SOCKET, events: EventSet::READ_HANG_UP }).unwrap();
    assert_eq!(mock.used().idx().load(), 2);
    assert_eq!(memory.read_obj::<i32>(GuestAddress(ANSWER + 4)).unwrap(), -libc::ENOTCONN);
    assert_eq!(memory.read_obj::<i32>(GuestAddress(ANSWER + 64 + 4)).unwrap(), 0);
    assert_eq!(interrupt.status(), 1);
    // A kick later on.
    fs.handle(Token::Source { id: 1, events: EventSet::IN }).unwrap();
    assert!(!fs.reset());
}
