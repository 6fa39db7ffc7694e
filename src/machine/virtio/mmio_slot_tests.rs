//! A slot for disks, whose driver does what it should not: it goes on when its disk has been taken away.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::Epoll;

use super::super::super::block::{Block, QUEUE_SIZES, disk::RawFile};
use super::super::super::window::Window;
use super::super::*;
use super::*;

const BASE: u64 = 0x8_0000;

struct Guest {
    memory: GuestMemoryMmap,
    transport: Transport,
}

impl Guest {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let transport = Transport::slot(
            "spare0".into(),
            QUEUE_SIZES,
            memory.clone(),
            Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap()),
            Watcher::new(Arc::new(Epoll::new().unwrap()), 0),
            Arc::new(Console::new(tempfile::tempfile().unwrap())),
        );
        Self { memory, transport: transport.unwrap() }
    }

    fn write(&self, register: u32, value: u32) {
        self.transport.write(u64::from(register), &value.to_le_bytes());
    }

    fn read(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.transport.read(u64::from(register), &mut data);
        u32::from_le_bytes(data)
    }

    /// A driver's way to DRIVER_OK, with the rings of `mock`; what it reads back of the status.
    fn drive(&self, mock: &MockSplitQueue<'_, GuestMemoryMmap>) -> u32 {
        let low = |address: GuestAddress| u32::try_from(address.0).unwrap();
        let status = register::VIRTIO_MMIO_STATUS;
        self.write(status, ACKNOWLEDGE);
        self.write(status, ACKNOWLEDGE | DRIVER);
        for (select, features) in [(0, 1 << VIRTIO_BLK_F_SEG_MAX), (1, 1)] {
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.write(register::VIRTIO_MMIO_DRIVER_FEATURES, features);
        }
        self.write(status, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.write(register::VIRTIO_MMIO_QUEUE_NUM, 16);
        self.write(register::VIRTIO_MMIO_QUEUE_DESC_LOW, low(mock.desc_table_addr()));
        self.write(register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, low(mock.avail_addr()));
        self.write(register::VIRTIO_MMIO_QUEUE_USED_LOW, low(mock.used_addr()));
        self.write(register::VIRTIO_MMIO_QUEUE_READY, 1);
        self.write(status, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        self.read(status)
    }

    /// One request for the disk's first sectors; its status byte is 0xff until it is answered.
    fn ask(&self, mock: &MockSplitQueue<'_, GuestMemoryMmap>, kind: u32, data: &[u8]) {
        self.memory.write_obj(kind, GuestAddress(BASE)).unwrap();
        self.memory.write_obj(0_u64, GuestAddress(BASE + 8)).unwrap();
        self.memory.write_slice(data, GuestAddress(BASE + 0x1000)).unwrap();
        self.memory.write_obj(0xff_u8, GuestAddress(BASE + 0x800)).unwrap();
        let read = if kind == VIRTIO_BLK_T_IN { VRING_DESC_F_WRITE } else { 0 };
        let one = |address, length: usize, flags, next| {
            let (length, flags) = (u32::try_from(length).unwrap(), u16::try_from(flags).unwrap());
            RawDescriptor::from(Descriptor::new(address, length, flags, next))
        };
        let chain = [
            one(BASE, 16, VRING_DESC_F_NEXT, 1),
            one(BASE + 0x1000, data.len(), VRING_DESC_F_NEXT | read, 2),
            one(BASE + 0x800, 1, VRING_DESC_F_WRITE, 0),
        ];
        mock.add_desc_chains(&chain, 0).unwrap();
        self.kick();
    }

    fn kick(&self) {
        self.write(register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        self.transport.handle(Token::Queue(0));
    }

    fn answer(&self) -> u8 {
        self.memory.read_obj(GuestAddress(BASE + 0x800)).unwrap()
    }
}

fn disk(content: u8) -> (tempfile::NamedTempFile, Box<dyn VirtioDevice>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![content; 1 << 16]).unwrap();
    let disk = RawFile::open(file.path(), false).unwrap();
    (file, Box::new(Block::new(Box::new(disk), false, "spare0")))
}

#[test]
fn an_empty_slot_is_no_device_and_does_nothing() {
    let guest = Guest::new();
    let mock = MockSplitQueue::new(&guest.memory, 16);
    assert!(guest.transport.is_empty());
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 0);
    assert_eq!(guest.drive(&mock), 0);
    guest.ask(&mock, VIRTIO_BLK_T_IN, &[0; 512]);
    assert_eq!((guest.answer(), mock.used().idx().load()), (0xff, 0));
    guest.transport.unplug();
}

#[test]
fn a_disk_comes_and_goes_and_what_is_asked_then_reaches_nothing() {
    let guest = Guest::new();
    let mock = MockSplitQueue::new(&guest.memory, 16);
    let (file, device) = disk(7);
    guest.transport.plug(device).unwrap();
    let (_other, second) = disk(8);
    assert!(matches!(guest.transport.plug(second), Err(SlotError::Occupied)));
    assert_eq!(guest.read(register::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_eq!(guest.drive(&mock) & DRIVER_OK, DRIVER_OK);
    guest.ask(&mock, VIRTIO_BLK_T_IN, &[0; 512]);
    assert_eq!(guest.answer(), 0);
    assert_eq!(guest.memory.read_obj::<u8>(GuestAddress(BASE + 0x1000)).unwrap(), 7);

    guest.transport.unplug();
    assert!(guest.transport.is_empty());
    let mock = MockSplitQueue::new(&guest.memory, 16);
    guest.ask(&mock, VIRTIO_BLK_T_OUT, &[9; 512]);
    guest.write(register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    guest.kick();
    assert_eq!((guest.answer(), mock.used().idx().load()), (0xff, 0));
    assert!(std::fs::read(file.path()).unwrap().iter().all(|byte| *byte == 7));
    // Nobody has it any more: it is another machine's to open.
    drop(RawFile::open(file.path(), false).unwrap());
}

#[test]
fn the_next_disk_is_not_reached_by_the_last_ones_driver() {
    let guest = Guest::new();
    let mock = MockSplitQueue::new(&guest.memory, 16);
    let (_file, device) = disk(7);
    guest.transport.plug(device).unwrap();
    assert_eq!(guest.drive(&mock) & DRIVER_OK, DRIVER_OK);
    guest.transport.unplug();
    let (file, device) = disk(8);
    guest.transport.plug(device).unwrap();
    assert_eq!(guest.read(register::VIRTIO_MMIO_STATUS), 0);
    // The rings that it had are forgotten with the disk that they were for.
    guest.ask(&mock, VIRTIO_BLK_T_OUT, &[9; 512]);
    assert_eq!(guest.answer(), 0xff);
    assert!(std::fs::read(file.path()).unwrap().iter().all(|byte| *byte == 8));
}

#[test]
fn what_was_begun_is_done_when_a_disk_has_gone() {
    let guest = Guest::new();
    let mock = MockSplitQueue::new(&guest.memory, 16);
    let (file, device) = disk(7);
    guest.transport.plug(device).unwrap();
    assert_eq!(guest.drive(&mock) & DRIVER_OK, DRIVER_OK);
    // struct virtio_blk_discard_write_zeroes (section 5.2.6): sector, number of sectors, flags. The kernel does it meanwhile.
    let range = [0_u64.to_le_bytes(), [16, 0, 0, 0, 0, 0, 0, 0]].concat();
    guest.ask(&mock, VIRTIO_BLK_T_WRITE_ZEROES, &range);
    guest.transport.unplug();
    let content = std::fs::read(file.path()).unwrap();
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    assert!([0, 8192].contains(&zeros), "{zeros}");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(std::fs::read(file.path()).unwrap(), content, "it went on");
}
