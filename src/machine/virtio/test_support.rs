//! A device's activation over virtio-queue's mock driver, for the devices' unit tests.

use std::sync::Arc;

use virtio_queue::Queue;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::window::Window;
use super::{Active, DeviceQueue, Interrupt};
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
        queues: vec![DeviceQueue::new(queue, EventFd::new(EFD_NONBLOCK).unwrap())],
        interrupt: interrupt.clone(),
        features: 0,
        watcher: Watcher::new(Arc::new(Epoll::new().unwrap()), 0),
    };
    (active, interrupt)
}
