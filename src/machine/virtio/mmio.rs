//! The transport: a device behind memory-mapped registers (VIRTIO 1.2, section 4.2), version 2.
//!
//! Enters: register accesses of the driver (vCPU threads), events (device thread). Leaves: calls of the device, and what
//! the driver reads, which it usually does without an exit (`window.rs`): whatever changes a register shows it there.
//! Must never know which device it carries.
//!
//! The driver is hostile: features only before FEATURES_OK, queue registers only before DRIVER_OK, and what it wrote
//! is validated against guest memory at that moment; afterwards the registers are frozen until it resets the device.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{Active, DeviceError, DeviceQueue, Interrupt, Token, VirtioDevice};
use crate::machine::bus::BusDevice;
use crate::machine::events::Watcher;
use crate::machine::serial::Console;

/// `MagicValue`: "virt" (section 4.2.2).
const MAGIC: u32 = 0x7472_6976;
/// `Version`: 2, the one that is not legacy.
const VERSION: u32 = 2;
/// `VendorID`: ours.
const VENDOR: u32 = u32::from_le_bytes(*b"MSB\0");
/// What the transport and virtio-queue give to every device.
const OWN_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;
/// `QueueNotify`, the register that KVM turns into the kick of a queue.
pub const QUEUE_NOTIFY: u64 = register::VIRTIO_MMIO_QUEUE_NOTIFY as u64;
/// `InterruptACK`, of which KVM takes [`super::ACKNOWLEDGED`].
pub const INTERRUPT_ACK: u64 = register::VIRTIO_MMIO_INTERRUPT_ACK as u64;
/// Section 4.2.2: a shared memory region that does not exist has all ones as length and base.
const NO_SHARED_MEMORY: [u32; 4] = [
    register::VIRTIO_MMIO_SHM_LEN_LOW,
    register::VIRTIO_MMIO_SHM_LEN_HIGH,
    register::VIRTIO_MMIO_SHM_BASE_LOW,
    register::VIRTIO_MMIO_SHM_BASE_HIGH,
];

/// One device with its registers.
pub struct Transport {
    name: String,
    memory: GuestMemoryMmap,
    watcher: Watcher,
    console: Arc<Console>,
    interrupt: Interrupt,
    kicks: Vec<EventFd>,
    state: Mutex<State>,
}

struct State {
    /// `None` in an empty slot, and after [`Transport::close`].
    device: Option<Box<dyn VirtioDevice>>,
    offered: u64,
    accepted: u64,
    status: u32,
    offered_select: u32,
    accepted_select: u32,
    queue_select: u32,
    queues: Vec<Queue>,
    /// The driver wrote a queue size or address that is not possible.
    bad_queue: Option<&'static str>,
    /// The device was reset since the driver has started it; whether it can be started again.
    able: Option<bool>,
    /// The machine has ended.
    closed: bool,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Transport {
    /// Gives the device its registers.
    pub fn new(
        name: String,
        device: Box<dyn VirtioDevice>,
        memory: GuestMemoryMmap,
        interrupt: Interrupt,
        watcher: Watcher,
        console: Arc<Console>,
    ) -> io::Result<Self> {
        let transport = Self::slot(name, device.queue_sizes(), memory, interrupt, watcher, console)?;
        transport.put(&mut transport.lock(), device);
        Ok(transport)
    }

    /// Registers without a device, for one with queues of these sizes: see `mmio_slot.rs`.
    pub fn slot(
        name: String,
        sizes: &[u16],
        memory: GuestMemoryMmap,
        interrupt: Interrupt,
        watcher: Watcher,
        console: Arc<Console>,
    ) -> io::Result<Self> {
        let kicks =
            sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)).collect::<Result<_, _>>()?;
        let queues = sizes
            .iter()
            .map(|size| Queue::new(*size).map_err(|error| io::Error::other(error.to_string())))
            .collect::<Result<_, _>>()?;
        let state = State {
            offered: 0,
            device: None,
            closed: false,
            accepted: 0,
            status: 0,
            offered_select: 0,
            accepted_select: 0,
            queue_select: 0,
            queues,
            bad_queue: None,
            able: None,
        };
        let window = interrupt.window();
        window.put(register::VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
        window.put(register::VIRTIO_MMIO_VERSION, VERSION);
        window.put(register::VIRTIO_MMIO_VENDOR_ID, VENDOR);
        for offset in NO_SHARED_MEMORY {
            window.put(offset, u32::MAX);
        }
        Ok(Self { name, memory, watcher, console, interrupt, kicks, state: Mutex::new(state) })
    }

    /// The kick of each queue, for KVM_IOEVENTFD at [`QUEUE_NOTIFY`] with the queue's index as data.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// Hands an event to the device. Device thread only.
    pub(crate) fn handle(&self, token: Token) {
        if let Token::Queue(index) = token {
            match self.kicks.get(usize::from(index)) {
                // Empty when the device was reset in between.
                Some(kick) => drop(kick.read()),
                None => return,
            }
        }
        let mut state = self.lock();
        if state.status & DRIVER_OK == 0 || state.status & NEEDS_RESET != 0 {
            return;
        }
        let result = state.device.as_mut().map_or(Ok(()), |device| device.handle(token));
        if let Err(error) = result {
            self.give_up(&mut state, &error);
        }
    }

    /// Drops the device: the streams and files that it holds are closed. The guest sees a device that is gone.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.status = NEEDS_RESET;
        state.device = None;
        state.closed = true;
        self.show_all(&state);
    }

    fn put(&self, state: &mut State, device: Box<dyn VirtioDevice>) {
        state.offered = device.features() | OWN_FEATURES;
        state.device = Some(device);
        self.show_all(state);
    }

    /// What the driver reads of the registers that change.
    fn show(&self, state: &State) {
        let frozen = state.status & DRIVER_OK != 0;
        let queue = state.selected();
        for (offset, value) in [
            (
                register::VIRTIO_MMIO_DEVICE_ID,
                state.device.as_ref().map_or(0, |device| device.device_type() as u32),
            ),
            (register::VIRTIO_MMIO_DEVICE_FEATURES, half(state.offered, state.offered_select)),
            (register::VIRTIO_MMIO_QUEUE_NUM_MAX, queue.map_or(0, |queue| u32::from(queue.max_size()))),
            (register::VIRTIO_MMIO_QUEUE_READY, queue.map_or(0, |queue| u32::from(queue.ready() || frozen))),
            (register::VIRTIO_MMIO_STATUS, state.status),
        ] {
            self.interrupt.window().put(offset, value);
        }
    }

    /// And of the configuration.
    fn show_all(&self, state: &State) {
        let config = state.device.as_ref().map_or(&[][..], |device| device.config());
        self.interrupt.window().put_config(config);
        self.show(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A device that panicked has ended the process (panic = abort); in tests the state is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Section 2.1.2: DEVICE_NEEDS_RESET, and the driver is told. The device forgets all there was at once: what it watches
    /// would wake its thread again and again, and whoever is at the other end of its streams must not wait for a guest that
    /// may never reset it.
    fn give_up(&self, state: &mut State, error: &dyn std::error::Error) {
        let mut text = format!("{} needs a reset: {error}", self.name);
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        self.console.note(&text);
        state.status |= NEEDS_RESET;
        state.able = state.device.as_mut().map(|device| device.reset());
        self.show(state);
        // The line is an eventfd: it can only be full, and then the interrupt is pending.
        let _ = self.interrupt.status_changed();
    }

    /// Section 3.1.1, step 8: the driver is ready.
    fn activate(&self, state: &mut State) {
        let broken = |reason| DeviceError::Chain { reason };
        if let Some(reason) = state.bad_queue {
            return self.give_up(state, &broken(reason));
        }
        if state.queues.iter().any(|queue| queue.ready() && !queue.is_valid(&self.memory)) {
            return self.give_up(state, &broken("a queue outside of memory"));
        }
        let event_index = state.accepted & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let queues = state.queues.iter_mut().zip(&self.kicks).map(|(queue, kick)| {
            queue.set_event_idx(event_index);
            // The device gets the queue itself; here an empty one of the same size answers the registers.
            let fresh = Queue::new(queue.max_size())?;
            Ok((std::mem::replace(queue, fresh), kick))
        });
        let queues = match queues.collect::<Result<Vec<_>, virtio_queue::Error>>() {
            Ok(queues) => queues,
            Err(source) => return self.give_up(state, &DeviceError::Queue { queue: 0, source }),
        };
        let host = |what| move |source| DeviceError::Host { what, source };
        let features = state.accepted;
        let polled = state.device.as_ref().is_some_and(|device| device.polls_kicks());
        let built = (0_u16..).zip(queues).map(|(index, (queue, kick))| {
            if polled {
                self.watcher.watch_queue(borrow(kick), index).map_err(host("watch a queue"))?;
            }
            let kick = kick.try_clone().map_err(host("duplicate a descriptor"))?;
            Ok(DeviceQueue::new(queue, kick, features))
        });
        let queues = match built.collect::<Result<Vec<_>, DeviceError>>() {
            Ok(queues) => queues,
            Err(error) => return self.give_up(state, &error),
        };
        let active = Active {
            memory: self.memory.clone(),
            queues,
            interrupt: self.interrupt.clone(),
            features,
            watcher: self.watcher.clone(),
        };
        let result = state.device.as_mut().map_or(Ok(()), |device| device.activate(active));
        if let Err(error) = result {
            self.give_up(state, &error);
        }
    }

    /// Section 2.4: the driver wrote 0 to the status.
    fn reset(&self, state: &mut State) {
        if state.status & DRIVER_OK != 0 {
            for kick in &self.kicks {
                // Not watched when the activation failed half-way, or by another process.
                let _ = self.watcher.unwatch(borrow(kick));
            }
            if state.able.is_none() {
                state.able = state.device.as_mut().map(|device| device.reset());
            }
        }
        // However often it is asked to.
        if state.able == Some(false) || state.closed {
            state.status = NEEDS_RESET;
            return;
        }
        for queue in &mut state.queues {
            queue.reset();
        }
        self.interrupt.acknowledge(u32::MAX);
        (state.status, state.accepted, state.bad_queue, state.able) = (0, 0, None, None);
        (state.offered_select, state.accepted_select, state.queue_select) = (0, 0, 0);
    }

    /// Section 2.1: the driver may only add bits, in their order.
    fn write_status(&self, state: &mut State, value: u32) {
        if value == 0 {
            return self.reset(state);
        }
        if state.device.is_none() || state.able == Some(false) {
            return;
        }
        let known = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED;
        let driver_bits = state.status & !NEEDS_RESET;
        let added = value & known & !driver_bits;
        if value & driver_bits != driver_bits || state.status & FAILED != 0 {
            return;
        }
        let mut take = |bit: u32, after: u32| {
            if added & bit != 0 && state.status & after == after {
                state.status |= bit;
                return true;
            }
            false
        };
        take(FAILED, 0);
        take(ACKNOWLEDGE, 0);
        take(DRIVER, ACKNOWLEDGE);
        let acceptable =
            state.accepted & !state.offered == 0 && state.accepted & 1 << VIRTIO_F_VERSION_1 != 0;
        let mut take = |bit: u32, after: u32| {
            let taken = added & bit != 0 && state.status & after == after;
            state.status |= if taken { bit } else { 0 };
            taken
        };
        if acceptable {
            take(FEATURES_OK, ACKNOWLEDGE | DRIVER);
        }
        if take(DRIVER_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK) {
            self.activate(state);
        }
    }

    fn write_register(&self, offset: u32, value: u32) {
        match offset {
            register::VIRTIO_MMIO_INTERRUPT_ACK => return self.interrupt.acknowledge(value),
            register::VIRTIO_MMIO_QUEUE_NOTIFY => {
                // Usually KVM does this.
                if let Some(kick) = usize::try_from(value).ok().and_then(|index| self.kicks.get(index)) {
                    let _ = kick.write(1);
                }
                return;
            }
            _ => {}
        }
        let mut state = self.lock();
        match offset {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => state.offered_select = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => state.accepted_select = value,
            register::VIRTIO_MMIO_QUEUE_SEL => state.queue_select = value,
            register::VIRTIO_MMIO_STATUS => self.write_status(&mut state, value),
            register::VIRTIO_MMIO_DRIVER_FEATURES => {
                if state.status & (DRIVER | FEATURES_OK) == DRIVER {
                    let (mask, value) = match state.accepted_select {
                        0 => (u64::from(u32::MAX), u64::from(value)),
                        1 => (u64::from(u32::MAX) << 32, u64::from(value) << 32),
                        _ => return,
                    };
                    state.accepted = state.accepted & !mask | value;
                }
            }
            _ => state.write_queue(offset, value),
        }
        if offset == register::VIRTIO_MMIO_STATUS {
            // The device may have been started, or forgotten all.
            self.show_all(&state);
        } else {
            self.show(&state);
        }
    }
}

impl State {
    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    /// Queue registers: only between FEATURES_OK and DRIVER_OK, and only of a queue that is not ready.
    fn write_queue(&mut self, offset: u32, value: u32) {
        if self.status & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET) != FEATURES_OK {
            return;
        }
        let Some(queue) =
            usize::try_from(self.queue_select).ok().and_then(|index| self.queues.get_mut(index))
        else {
            return;
        };
        if offset == register::VIRTIO_MMIO_QUEUE_READY {
            return queue.set_ready(value & 1 == 1);
        }
        if queue.ready() {
            return;
        }
        // The queue's own setters would keep the value before a bad one, and tell nobody.
        let [table, available, used] = [queue.desc_table(), queue.avail_ring(), queue.used_ring()];
        let set = match offset {
            register::VIRTIO_MMIO_QUEUE_NUM => queue.try_set_size(u16::try_from(value).unwrap_or(0)),
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => queue.try_set_desc_table_address(low(table, value)),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.try_set_desc_table_address(high(table, value)),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.try_set_avail_ring_address(low(available, value)),
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => {
                queue.try_set_avail_ring_address(high(available, value))
            }
            register::VIRTIO_MMIO_QUEUE_USED_LOW => queue.try_set_used_ring_address(low(used, value)),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => queue.try_set_used_ring_address(high(used, value)),
            _ => Ok(()),
        };
        if set.is_err() {
            self.bad_queue = Some(match offset {
                register::VIRTIO_MMIO_QUEUE_NUM => "a queue size that is not a power of two, or too large",
                _ => "a queue at an address that is not aligned",
            });
        }
    }
}

/// An address with another lower half.
fn low(address: u64, value: u32) -> GuestAddress {
    GuestAddress(address & !u64::from(u32::MAX) | u64::from(value))
}

/// And with another upper one.
fn high(address: u64, value: u32) -> GuestAddress {
    GuestAddress(address & u64::from(u32::MAX) | u64::from(value) << 32)
}

/// The 32 bits of a 64-bit field that the driver selected.
fn half(value: u64, select: u32) -> u32 {
    let bytes = value.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        1 => u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        _ => 0,
    }
}

#[allow(unsafe_code)] // vmm-sys-util's EventFd has no AsFd
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the EventFd lives, from which the result borrows.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

impl BusDevice for Transport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.interrupt.window().read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(at) = offset.checked_sub(u64::from(register::VIRTIO_MMIO_CONFIG)) {
            let mut state = self.lock();
            if let Some(device) = &mut state.device {
                device.write_config(at, data);
                self.interrupt.window().put_config(device.config());
            }
        } else if let (Ok(data), Ok(offset)) = (<[u8; 4]>::try_from(data), u32::try_from(offset)) {
            self.write_register(offset, u32::from_le_bytes(data));
        }
    }
}

#[path = "mmio_slot.rs"]
mod slot;
pub use slot::SlotError;

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
