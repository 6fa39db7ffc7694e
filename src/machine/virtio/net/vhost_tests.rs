//! The host's kernel as the device, where it has one.

use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{Epoll, EpollEvent};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::tests::interrupt;
use super::*;
use crate::machine::events::{Watcher, decode};

/// What the kernel finds wrong is the device's end until it is reset, each time.
#[test]
fn a_ring_that_the_kernel_can_not_read_breaks_the_device() {
    let Some(vhost) = open_vhost() else {
        return test_skips::skip("it needs root and /dev/vhost-net");
    };
    // Instead of a tap: of no interface, so that nothing is sent.
    let tap = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let mut net = Net::new(Nic { tap, mac: [2; 6], mtu: 1500, vhost: Some(vhost) }).unwrap();
    let epoll = Arc::new(Epoll::new().unwrap());
    for round in 0..2 {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mocks = [0x1_0000, 0x2_0000].map(|at| MockSplitQueue::create(&memory, GuestAddress(at), 16));
        let kicks = [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let queues = mocks.iter().zip(&kicks).map(|(mock, kick)| {
            let queue: Queue = mock.create_queue().unwrap();
            DeviceQueue::new(queue, kick.try_clone().unwrap(), 0)
        });
        let active = Active {
            memory: memory.clone(),
            queues: queues.collect(),
            interrupt: interrupt(),
            features: 1 << VIRTIO_F_VERSION_1,
            watcher: Watcher::new(Arc::clone(&epoll), 0),
        };
        net.activate(active).unwrap();
        let mut events = [EpollEvent::default()];
        assert_eq!(epoll.wait(50, &mut events).unwrap(), 0, "{round}: all is well");
        // More chains than the ring is long.
        mocks[1].avail().idx().store(1000);
        kicks[1].write(1).unwrap();
        assert_eq!(epoll.wait(10_000, &mut events).unwrap(), 1, "{round}: the kernel tells");
        let (_, token) = decode(&events[0]);
        let told = net.handle(token);
        assert!(matches!(told, Err(DeviceError::Ring { queue: TX })), "{round}: {told:?}");
        assert!(net.reset());
        // What was on its way is over.
        net.handle(token).unwrap();
        assert_eq!(epoll.wait(0, &mut events).unwrap(), 0, "{round}: nothing wakes the loop");
    }
}

/// What a driver leaves half done is undone: the queue that runs already stops, and the next driver has its device.
#[test]
fn a_start_that_fails_is_undone_and_a_queue_that_is_not_ready_is_left_alone() {
    let Some(vhost) = open_vhost() else {
        return test_skips::skip("it needs root and /dev/vhost-net");
    };
    let tap = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let mut net = Net::new(Nic { tap, mac: [2; 6], mtu: 1500, vhost: Some(vhost) }).unwrap();
    let epoll = Arc::new(Epoll::new().unwrap());
    // The second queue: beyond the memory, then not ready and beyond it, then a good one.
    for (place, ready, works) in [(1 << 30, true, false), (1 << 30, false, true), (0x2_0000, true, true)] {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::create(&memory, GuestAddress(0x1_0000), 16);
        let first: Queue = mock.create_queue().unwrap();
        let mut second = Queue::new(16).unwrap();
        second.try_set_desc_table_address(GuestAddress(place)).unwrap();
        second.try_set_avail_ring_address(GuestAddress(place + 0x1000)).unwrap();
        second.try_set_used_ring_address(GuestAddress(place + 0x2000)).unwrap();
        second.set_ready(ready);
        let kick = || EventFd::new(EFD_NONBLOCK).unwrap();
        let active = Active {
            memory: memory.clone(),
            queues: vec![DeviceQueue::new(first, kick(), 0), DeviceQueue::new(second, kick(), 0)],
            interrupt: interrupt(),
            features: 1 << VIRTIO_F_VERSION_1,
            watcher: Watcher::new(Arc::clone(&epoll), 0),
        };
        assert_eq!(net.activate(active).is_ok(), works, "{place:#x}, {ready}");
        assert!(net.reset());
    }
}
