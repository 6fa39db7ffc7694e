//! The device as its driver and the rest of the VMM see it.

use virtio_bindings::virtio_ring::VRING_DESC_F_WRITE;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::window::Window;
use super::*;
use crate::machine::events;

const NUMBERS_AT: u64 = 0x8_0000;
const MIB: u64 = (1 << 20) / Pages::SIZE;

/// A driver's side: three queues of one device, and what it is told.
struct Driver<'m> {
    queues: [MockSplitQueue<'m, GuestMemoryMmap>; 3],
    epoll: Arc<Epoll>,
    interrupt: Interrupt,
}

impl<'m> Driver<'m> {
    fn new(memory: &'m GuestMemoryMmap) -> Self {
        let queues = [0x1_0000, 0x2_0000, 0x3_0000]
            .map(|start| MockSplitQueue::create(memory, GuestAddress(start), 32));
        let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap());
        Self { queues, epoll: Arc::new(Epoll::new().unwrap()), interrupt }
    }

    fn active(&self, memory: &GuestMemoryMmap) -> Active {
        let queue = |mock: &MockSplitQueue<'_, GuestMemoryMmap>| {
            DeviceQueue::new(mock.create_queue().unwrap(), EventFd::new(EFD_NONBLOCK).unwrap(), 0)
        };
        Active {
            memory: memory.clone(),
            queues: self.queues.iter().map(queue).collect(),
            interrupt: self.interrupt.clone(),
            features: 0,
            watcher: Watcher::new(Arc::clone(&self.epoll), 0),
        }
    }

    fn send(&self, queue: u16, address: u64, length: u32, writable: bool) {
        let flags = if writable { VRING_DESC_F_WRITE } else { 0 };
        let descriptor = Descriptor::new(address, length, u16::try_from(flags).unwrap(), 0);
        let mock = &self.queues[usize::from(queue)];
        mock.build_desc_chain(&[RawDescriptor::from(descriptor)]).unwrap();
    }

    fn used(&self, queue: u16) -> u16 {
        self.queues[usize::from(queue)].used().idx().load()
    }

    /// The token that the device's own descriptor gives now.
    fn event(&self) -> Option<Token> {
        let mut found = [vmm_sys_util::epoll::EpollEvent::default()];
        let count = self.epoll.wait(0, &mut found).unwrap();
        (count == 1).then(|| events::decode(&found[0]).1)
    }
}

fn memory() -> GuestMemoryMmap {
    memory::reserve(128, memory::Backing::Anonymous).unwrap()
}

fn config(device: &Balloon) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(device.config()[at..at + 4].try_into().unwrap());
    (word(0), word(4))
}

#[test]
fn free_and_given_up_pages_read_as_zeroes_and_are_answered() {
    let memory = memory();
    let driver = Driver::new(&memory);
    let (mut device, _handle) = Balloon::new(128).unwrap();
    device.activate(driver.active(&memory)).unwrap();
    let (reported, given_up, kept) = (0x80_0000, 0x60_0000, 0x60_2000);
    for address in [reported, reported + (2 << 20) - 8, given_up, given_up + 0x1000, kept] {
        memory.write_obj(7_u64, GuestAddress(address)).unwrap();
    }
    memory.write_obj([0x600_u32.to_le(), 0x601_u32.to_le()], GuestAddress(NUMBERS_AT)).unwrap();
    driver.send(REPORTING, reported, 2 << 20, true);
    device.handle(Token::Queue(REPORTING)).unwrap();
    assert_eq!((driver.used(REPORTING), driver.interrupt.status()), (1, 1));
    driver.send(INFLATE, NUMBERS_AT, 8, false);
    device.handle(Token::Queue(INFLATE)).unwrap();
    driver.send(DEFLATE, NUMBERS_AT, 8, false);
    device.handle(Token::Queue(DEFLATE)).unwrap();
    assert_eq!((driver.used(INFLATE), driver.used(DEFLATE)), (1, 1));
    let read = |address| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
    assert_eq!(
        [read(reported), read(reported + (2 << 20) - 8), read(given_up), read(given_up + 0x1000)],
        [0; 4]
    );
    assert_eq!(read(kept), 7);
}

#[test]
fn pages_outside_of_memory_break_the_device_before_any_effect() {
    let memory = memory();
    let driver = Driver::new(&memory);
    let (mut device, _handle) = Balloon::new(128).unwrap();
    device.activate(driver.active(&memory)).unwrap();
    memory.write_obj([0x600_u32.to_le(), 0x8000_u32.to_le()], GuestAddress(NUMBERS_AT)).unwrap();
    memory.write_obj(7_u64, GuestAddress(0x60_0000)).unwrap();
    for queue in [INFLATE, DEFLATE] {
        driver.send(queue, NUMBERS_AT, 8, false);
        assert!(matches!(device.handle(Token::Queue(queue)), Err(DeviceError::Chain { .. })));
    }
    driver.send(REPORTING, 128 << 20, 4096, true);
    assert!(matches!(device.handle(Token::Queue(REPORTING)), Err(DeviceError::Chain { .. })));
    assert_eq!(memory.read_obj::<u64>(GuestAddress(0x60_0000)).unwrap(), 7);
}

#[test]
fn a_wanted_size_reaches_the_driver_and_its_answer_the_vmm() {
    let memory = memory();
    let driver = Driver::new(&memory);
    let (mut device, handle) = Balloon::new(128).unwrap();
    // Before there is a driver: it finds the size when it comes.
    handle.want(16 * MIB);
    device.activate(driver.active(&memory)).unwrap();
    assert_eq!((config(&device), driver.event()), ((4096, 0), None));
    handle.want(32 * MIB);
    device.handle(driver.event().unwrap()).unwrap();
    assert_eq!((config(&device).0, driver.interrupt.status(), driver.event()), (8192, 2, None));
    driver.interrupt.acknowledge(2);
    // The same again is nothing to tell, and the guest keeps what the smallest guest has.
    handle.want(32 * MIB);
    device.handle(driver.event().unwrap()).unwrap();
    assert_eq!(driver.interrupt.status(), 0);
    handle.want(u64::MAX);
    device.handle(driver.event().unwrap()).unwrap();
    assert_eq!(config(&device).0, 16384);

    device.write_config(4, &8192_u32.to_le_bytes());
    assert_eq!((config(&device).1, handle.actual()), (8192, 8192));
    for (offset, data) in [(0, &[1; 4][..]), (4, &[1; 2]), (5, &[1; 4]), (u64::MAX, &[1; 4]), (8, &[])] {
        device.write_config(offset, data);
    }
    assert_eq!(config(&device), (16384, 8192));

    assert!(device.reset());
    assert_eq!((config(&device).1, handle.actual()), (0, 0));
    handle.want(0);
    assert_eq!(driver.event(), None);
    // An event that was on its way.
    device.handle(Token::Source { id: WANTED, events: EventSet::IN }).unwrap();
    device.activate(driver.active(&memory)).unwrap();
    assert_eq!(config(&device), (0, 0));
}
