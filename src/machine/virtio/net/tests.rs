//! Frames both ways, with a datagram socket in the tap's place.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::Queue;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::window::Window;
use super::*;

const SIZE: u64 = 1 << 21;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(SIZE).unwrap())]).unwrap()
}

pub(super) fn interrupt() -> Interrupt {
    Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap())
}

/// The device's side of the "tap", and the network's.
pub(super) fn tap() -> (Tap, UnixDatagram) {
    let (device, network) = UnixDatagram::pair().unwrap();
    for end in [&device, &network] {
        end.set_nonblocking(true).unwrap();
    }
    (Tap::new(OwnedFd::from(device)), network)
}

pub(super) fn queue(mock: &MockSplitQueue<'_, GuestMemoryMmap>) -> DeviceQueue {
    DeviceQueue::new(mock.create_queue::<Queue>().unwrap(), EventFd::new(EFD_NONBLOCK).unwrap(), 0)
}

fn buffer(address: u64, length: u32, flags: u32) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, length, u16::try_from(flags).unwrap(), 0))
}

pub(super) fn received(network: &UnixDatagram) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut place = vec![0; MAX_FRAME];
    while let Ok(count) = network.recv(&mut place) {
        frames.push(place[..count].to_vec());
    }
    frames
}

/// What the network gets of these chains, each of buffers by address, length and flags.
fn sent(chains: &[&[(u64, u32, u32)]]) -> Vec<Vec<u8>> {
    let memory = memory();
    memory.write_slice(&[7; 4096], GuestAddress(0x1_0000)).unwrap();
    let mock = MockSplitQueue::new(&memory, 16);
    let mut descriptors = Vec::new();
    for chain in chains {
        for (address, length, flags) in *chain {
            let next = u16::try_from(descriptors.len() + 1).unwrap();
            let flags = u16::try_from(*flags).unwrap();
            descriptors.push(RawDescriptor::from(Descriptor::new(*address, *length, flags, next)));
        }
    }
    mock.add_desc_chains(&descriptors, 0).unwrap();
    let (tap, network) = tap();
    Transmit::new(queue(&mock)).take(&memory, &interrupt(), &tap, None).unwrap();
    assert_eq!(usize::from(mock.used().idx().load()), chains.len(), "every chain comes back");
    received(&network)
}

#[test]
fn what_goes_beyond_the_limit_waits_on_both_ways() {
    let memory = memory();
    let limiter = || Limiter::new("operations=20,operations-burst=1".parse().unwrap()).unwrap().unwrap();
    let began = std::time::Instant::now();
    let mock = MockSplitQueue::new(&memory, 16);
    mock.add_desc_chains(&[buffer(0x1_0000, 100, 0), buffer(0x1_1000, 100, 0)], 0).unwrap();
    let (tap, network) = tap();
    let (mut transmit, mut limit) = (Transmit::new(queue(&mock)), limiter());
    let mut frames = 0;
    while frames < 2 {
        transmit.take(&memory, &interrupt(), &tap, Some(&mut limit)).unwrap();
        frames += received(&network).len();
        assert_eq!(usize::from(mock.used().idx().load()), frames);
        assert!(frames < 2 || began.elapsed().as_millis() >= 49, "{:?}", began.elapsed());
        assert!(began.elapsed().as_secs() < 60);
    }
    let began = std::time::Instant::now();
    let mock = MockSplitQueue::new(&memory, 16);
    let buffers: Vec<_> = (0..4).map(|at| buffer(0x1_0000 + at * 0x100, 0x100, VRING_DESC_F_WRITE)).collect();
    mock.add_desc_chains(&buffers, 0).unwrap();
    let (mut receive, mut limit) = (Receive::new(queue(&mock), false), limiter());
    for _ in 0..2 {
        network.send(&[7; 100]).unwrap();
    }
    while mock.used().idx().load() < 2 {
        receive.fill(&memory, &interrupt(), &tap, Some(&mut limit)).unwrap();
        assert!(mock.used().idx().load() < 2 || began.elapsed().as_millis() >= 49, "{:?}", began.elapsed());
        assert!(began.elapsed().as_secs() < 60);
    }
}

#[test]
fn a_frame_is_the_bytes_of_its_buffers() {
    let frames = sent(&[
        &[(0x1_0000, 12, VRING_DESC_F_NEXT), (0x1_0100, 60, 0)],
        &[(0x1_0000, 5, VRING_DESC_F_NEXT), (0x1_0100, 9, 0)],
    ]);
    assert_eq!(frames, [vec![7; 72], vec![7; 14]]);
}

#[test]
fn what_is_no_frame_is_lost_and_the_next_is_sent() {
    let frames = sent(&[
        &[(0x1_0000, 12, 0)],
        &[(0x1_0000, 64, VRING_DESC_F_WRITE)],
        &[(SIZE - 8, 64, 0)],
        &[(0x1_0000, 0x1_4000, 0)],
        &[(0x1_0000, u32::MAX, 0)],
        &[(0x1_0000, 64, 0)],
    ]);
    assert_eq!(frames, [vec![7; 64]]);
}

/// It would be sent as if it were whole.
#[test]
fn a_frame_whose_chain_breaks_off_breaks_the_device() {
    let memory = memory();
    for (flags, next) in [(VRING_DESC_F_NEXT, 0), (VRING_DESC_F_NEXT, 16), (VRING_DESC_F_INDIRECT, 0)] {
        let mock = MockSplitQueue::new(&memory, 16);
        let flags = u16::try_from(flags).unwrap();
        let descriptor = RawDescriptor::from(Descriptor::new(0x1_0000, 64, flags, next));
        mock.desc_table().store(0, descriptor).unwrap();
        mock.avail().ring().ref_at(0).unwrap().store(0);
        mock.avail().idx().store(1);
        let (tap, network) = tap();
        let sent = Transmit::new(queue(&mock)).take(&memory, &interrupt(), &tap, None);
        assert!(matches!(sent, Err(DeviceError::Chain { .. })), "{sent:?}");
        assert!(received(&network).is_empty());
    }
}

/// Fills one frame of `length` bytes into `chains` of 2 KiB each; returns the used elements.
fn filled(memory: &GuestMemoryMmap, chains: u64, length: usize) -> Vec<(u32, u32)> {
    let mock = MockSplitQueue::new(memory, 64);
    let descriptors: Vec<RawDescriptor> =
        (0..chains).map(|at| buffer(0x10_0000 + at * 2048, 2048, VRING_DESC_F_WRITE)).collect();
    mock.add_desc_chains(&descriptors, 0).unwrap();
    let (tap, network) = tap();
    let mut frame = vec![9; length];
    // What the tap leaves as it is.
    frame[10..12].copy_from_slice(&[0xff, 0xff]);
    network.send(&frame).unwrap();
    let filled = Receive::new(queue(&mock), true).fill(memory, &interrupt(), &tap, None).unwrap();
    assert_eq!(filled, Filled::AsFarAsPossible);
    let used = mock.used();
    let count = used.idx().load();
    let element = |at: u16| used.ring().ref_at(at.into()).unwrap().load();
    (0..count).map(|at| (element(at).id(), element(at).len())).collect()
}

#[test]
fn a_frame_fills_as_many_chains_as_it_needs_and_says_so() {
    let memory = memory();
    assert_eq!(filled(&memory, 40, 5000), [(0, 2048), (1, 2048), (2, 904)]);
    assert_eq!(
        memory.read_obj::<[u8; 12]>(GuestAddress(0x10_0000)).unwrap(),
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 3, 0]
    );
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x10_0000 + 4999)).unwrap(), 9);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(0x10_0000 + 5000)).unwrap(), 0);
}

#[test]
fn a_small_frame_takes_one_chain() {
    assert_eq!(filled(&memory(), 40, 60), [(0, 60)]);
}

#[test]
fn without_room_for_the_longest_frame_none_is_taken() {
    assert_eq!(filled(&memory(), 20, 60), []);
}

#[test]
fn a_queue_that_cannot_hold_a_frame_breaks_the_device() {
    let memory = memory();
    let (tap, _network) = tap();
    for (descriptors, reason) in [
        ([buffer(0x1_0000, 4, VRING_DESC_F_WRITE)], "a buffer too small for a header"),
        ([buffer(0x1_0000, 2048, 0)], "a readable buffer to receive into"),
        ([buffer(SIZE - 8, 2048, VRING_DESC_F_WRITE)], "a buffer outside of memory"),
    ] {
        let mock = MockSplitQueue::new(&memory, 16);
        mock.add_desc_chains(&descriptors, 0).unwrap();
        let error = Receive::new(queue(&mock), true).fill(&memory, &interrupt(), &tap, None).unwrap_err();
        assert!(matches!(error, DeviceError::Chain { reason: found } if found == reason), "{error:?}");
    }
}

#[test]
fn the_configuration_is_the_interface() {
    let (device, _network) = UnixDatagram::pair().unwrap();
    let mut net =
        Net::new(Nic { tap: device.into(), mac: [2, 4, 6, 8, 10, 12], mtu: 9000, vhost: None }).unwrap();
    assert_eq!(net.config(), [2, 4, 6, 8, 10, 12, 1, 0, 1, 0, 0x28, 0x23]);
    // A socket has no segments to offer.
    assert_eq!(net.features() & UDP_SEGMENTS, 0);
    net.unplugged().unwrap();
    assert_eq!(net.config()[6], 0, "the link is down");
    assert!(matches!(net.handle(Token::Queue(TX)), Err(DeviceError::Unexpected { .. })));
}
