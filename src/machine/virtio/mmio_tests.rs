//! The registers, from the driver's side.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use vm_memory::GuestAddress;
use vmm_sys_util::epoll::Epoll;

use super::super::window::Window;
use super::super::{ActivateError, DeviceType};
use super::*;

/// Counts what happens to it.
#[derive(Default)]
struct Counts {
    active: AtomicUsize,
    handled: AtomicUsize,
    resets: AtomicUsize,
    /// It can't be started again.
    spent: AtomicBool,
}

struct Fake(Arc<Counts>);

impl VirtioDevice for Fake {
    fn device_type(&self) -> DeviceType {
        DeviceType::Entropy
    }
    fn queue_sizes(&self) -> &'static [u16] {
        &[16, 16]
    }
    fn features(&self) -> u64 {
        1 << 5
    }
    fn config(&self) -> &[u8] {
        &[1, 2, 3]
    }
    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        assert_eq!(active.queues.len(), 2);
        self.0.active.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        if event == Token::Queue(1) { Err(DeviceError::Unexpected { token: event }) } else { Ok(()) }
    }
    fn reset(&mut self) -> bool {
        self.0.resets.fetch_add(1, Ordering::SeqCst);
        !self.0.spent.load(Ordering::SeqCst)
    }
}

fn transport() -> (Transport, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let transport = Transport::new(
        "fake".into(),
        Box::new(Fake(counts.clone())),
        memory,
        Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap()),
        Watcher::new(Arc::new(Epoll::new().unwrap()), 0),
        Arc::new(Console::new(tempfile::tempfile().unwrap())),
    )
    .unwrap();
    (transport, counts)
}

fn read(transport: &Transport, offset: u32) -> u32 {
    let mut data = [0; 4];
    transport.read(u64::from(offset), &mut data);
    u32::from_le_bytes(data)
}

fn write(transport: &Transport, offset: u32, value: u32) {
    transport.write(u64::from(offset), &value.to_le_bytes());
}

const VERSION_1_AND_OWN: [u32; 2] = [1 << 5 | 1 << VIRTIO_RING_F_EVENT_IDX, 1];

fn accept_features(transport: &Transport, features: [u32; 2]) {
    write(transport, register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    write(transport, register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
    for (select, value) in (0..).zip(features) {
        write(transport, register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
        write(transport, register::VIRTIO_MMIO_DRIVER_FEATURES, value);
    }
    write(transport, register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
}

fn set_queue(transport: &Transport, index: u32, size: u32, table: u32) {
    write(transport, register::VIRTIO_MMIO_QUEUE_SEL, index);
    write(transport, register::VIRTIO_MMIO_QUEUE_NUM, size);
    write(transport, register::VIRTIO_MMIO_QUEUE_DESC_LOW, table);
    write(transport, register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, table + 0x1000);
    write(transport, register::VIRTIO_MMIO_QUEUE_USED_LOW, table + 0x2000);
    write(transport, register::VIRTIO_MMIO_QUEUE_READY, 1);
}

fn go(transport: &Transport) -> u32 {
    write(transport, register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    read(transport, register::VIRTIO_MMIO_STATUS)
}

fn started() -> (Transport, Arc<Counts>) {
    let (transport, counts) = transport();
    accept_features(&transport, VERSION_1_AND_OWN);
    set_queue(&transport, 0, 16, 0x1_0000);
    set_queue(&transport, 1, 8, 0x2_0000);
    assert_eq!(go(&transport), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    (transport, counts)
}

#[test]
fn the_identity_is_that_of_section_4_2_2() {
    let (transport, _) = transport();
    let registers = [0, 4, 8].map(|offset| read(&transport, offset));
    assert_eq!(registers, [0x7472_6976, 2, 4]);
    let mut config = [0xaa; 4];
    transport.read(0x101, &mut config);
    assert_eq!(config, [2, 3, 0, 0]);
    transport.read(0xffff_ffff, &mut config);
    assert_eq!(config, [0; 4]);
}

#[test]
fn a_driver_that_follows_the_order_gets_its_device() {
    let (transport, counts) = started();
    assert_eq!(counts.active.load(Ordering::SeqCst), 1);
    transport.handle(Token::Queue(0));
    assert_eq!(counts.handled.load(Ordering::SeqCst), 1);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [[1 << 6, 1], [0, 0], [1 << 5, 3]] {
        let (transport, counts) = transport();
        accept_features(&transport, features);
        assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), ACKNOWLEDGE | DRIVER);
        assert_eq!(go(&transport), ACKNOWLEDGE | DRIVER);
        assert_eq!(counts.active.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn status_bits_out_of_order_are_not_taken() {
    let (transport, _) = transport();
    write(&transport, register::VIRTIO_MMIO_STATUS, DRIVER | DRIVER_OK);
    assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), 0);
    write(&transport, register::VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    write(&transport, register::VIRTIO_MMIO_STATUS, DRIVER);
    assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), ACKNOWLEDGE);
}

#[test]
fn a_queue_that_is_not_possible_needs_a_reset() {
    for (size, table) in
        [(16, 0xffff_0000), (3, 0x1_0000), (32, 0x1_0000), (0, 0x1_0000), (1 << 20, 0x1_0000)]
    {
        let (transport, counts) = transport();
        accept_features(&transport, VERSION_1_AND_OWN);
        set_queue(&transport, 0, size, table);
        assert_ne!(go(&transport) & NEEDS_RESET, 0, "{size} {table:#x}");
        assert_eq!(counts.active.load(Ordering::SeqCst), 0);
        write(&transport, register::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), 0);
    }
}

/// Section 2.7: 16, 2 and 4 bytes. It would run where it was before, or at 0.
#[test]
fn a_queue_that_is_not_aligned_needs_a_reset() {
    for (register, address) in [
        (register::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1_0008),
        (register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1_1001),
        (register::VIRTIO_MMIO_QUEUE_USED_LOW, 0x1_2002),
    ] {
        let (transport, counts) = transport();
        accept_features(&transport, VERSION_1_AND_OWN);
        set_queue(&transport, 0, 16, 0x1_0000);
        set_queue(&transport, 1, 16, 0x2_0000);
        write(&transport, register::VIRTIO_MMIO_QUEUE_READY, 0);
        write(&transport, register, address);
        write(&transport, register::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_ne!(go(&transport) & NEEDS_RESET, 0, "{address:#x}");
        assert_eq!(counts.active.load(Ordering::SeqCst), 0);
    }
    let (transport, _) = transport();
    accept_features(&transport, VERSION_1_AND_OWN);
    write(&transport, register::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1230);
    write(&transport, register::VIRTIO_MMIO_QUEUE_DESC_HIGH, 7);
    write(&transport, register::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x4560);
    assert_eq!(transport.lock().queues[0].desc_table(), 7 << 32 | 0x4560);
}

#[test]
fn queue_registers_are_frozen_at_driver_ok() {
    let (transport, _) = started();
    set_queue(&transport, 0, 4, 0x8_0000);
    write(&transport, register::VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(read(&transport, register::VIRTIO_MMIO_QUEUE_READY), 1);
    let state = transport.lock();
    assert_eq!((state.queues[0].size(), state.queues[0].ready()), (16, false));
}

#[test]
fn an_error_of_the_device_needs_a_reset_and_reset_heals() {
    let (transport, counts) = started();
    transport.handle(Token::Queue(1));
    assert_ne!(read(&transport, register::VIRTIO_MMIO_STATUS) & NEEDS_RESET, 0);
    assert_eq!(read(&transport, register::VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    transport.handle(Token::Queue(0));
    assert_eq!(counts.handled.load(Ordering::SeqCst), 1);
    write(&transport, register::VIRTIO_MMIO_STATUS, 0);
    assert_eq!(counts.resets.load(Ordering::SeqCst), 1);
    accept_features(&transport, VERSION_1_AND_OWN);
    set_queue(&transport, 0, 16, 0x1_0000);
    assert_eq!(go(&transport) & NEEDS_RESET, 0);
    assert_eq!(counts.active.load(Ordering::SeqCst), 2);
}

#[test]
fn a_device_that_gives_up_forgets_all_at_once_and_once() {
    let (transport, counts) = started();
    transport.handle(Token::Queue(1));
    assert_eq!(counts.resets.load(Ordering::SeqCst), 1);
    write(&transport, register::VIRTIO_MMIO_STATUS, 0);
    assert_eq!(counts.resets.load(Ordering::SeqCst), 1);
    assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), 0);
}

#[test]
fn a_device_that_is_spent_is_never_started_again() {
    let (transport, counts) = started();
    counts.spent.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        write(&transport, register::VIRTIO_MMIO_STATUS, 0);
        assert_eq!(read(&transport, register::VIRTIO_MMIO_STATUS), NEEDS_RESET);
        accept_features(&transport, VERSION_1_AND_OWN);
        set_queue(&transport, 0, 16, 0x1_0000);
        assert_eq!(go(&transport), NEEDS_RESET);
    }
    assert_eq!((counts.active.load(Ordering::SeqCst), counts.resets.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn a_closed_device_is_gone() {
    let (transport, counts) = started();
    transport.close();
    assert_eq!(Arc::strong_count(&counts), 1);
    transport.handle(Token::Queue(0));
    assert_eq!(read(&transport, register::VIRTIO_MMIO_DEVICE_ID), 0);
}

proptest! {
    /// Whatever a driver writes, the device is activated only in the state that section 3.1.1 ends with.
    #[test]
    fn any_sequence_of_writes_is_survived(
        writes in prop::collection::vec((0_u32..0x110, prop_oneof![0_u32..16, any::<u32>()], 1_usize..9), 0..200)
    ) {
        let (transport, counts) = transport();
        for (offset, value, width) in writes {
            let bytes = u64::from(value).to_le_bytes();
            transport.write(u64::from(offset & !3), &bytes[..width]);
            let mut data = [0; 8];
            transport.read(u64::from(offset), &mut data[..width]);
            transport.handle(Token::Queue(0));
        }
        let status = read(&transport, register::VIRTIO_MMIO_STATUS);
        if counts.active.load(Ordering::SeqCst) > counts.resets.load(Ordering::SeqCst) {
            prop_assert_eq!(status & 15, 15);
        }
    }
}
