//! A device's activation over virtio-queue's mock driver, for the devices' unit tests.

use std::sync::Arc;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::window::Window;
use super::{Active, Chain, DeviceQueue, Interrupt};
use crate::machine::events::Watcher;

/// An activation with the mock's queue as the only one, and the interrupt to look at.
pub(crate) fn device_queue(
    memory: &GuestMemoryMmap,
    mock: &MockSplitQueue<'_, GuestMemoryMmap>,
) -> (Active, Interrupt) {
    let queue: Queue = mock.create_queue().unwrap();
    let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap());
    let active = Active {
        memory: memory.clone(),
        queues: vec![DeviceQueue::new(queue, EventFd::new(EFD_NONBLOCK).unwrap(), 0)],
        interrupt: interrupt.clone(),
        features: 0,
        watcher: Watcher::new(Arc::new(Epoll::new().unwrap()), 0),
    };
    (active, interrupt)
}

/// These descriptors as the first chain of the mock's table.
pub(crate) fn chain<'m>(
    memory: &'m GuestMemoryMmap,
    mock: &MockSplitQueue<'_, GuestMemoryMmap>,
    descriptors: &[RawDescriptor],
) -> Chain<'m> {
    let head = mock.build_desc_chain(descriptors).unwrap().head_index();
    let queue: Queue = mock.create_queue().unwrap();
    Chain::new(memory, GuestAddress(queue.desc_table()), queue.size(), head, false)
}
