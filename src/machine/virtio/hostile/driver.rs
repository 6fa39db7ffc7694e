//! A driver that does as it is told, over the registers and the rings, with a device of another kind beside its own.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{Epoll, EpollEvent};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Make;
use super::memory::Memory;
use super::steps::{DATA, MEMORY, MOST, NO_EVENT_INDEX, Part, Step};
use super::subjects::{Subject, file};
#[cfg(test)]
use super::walls::Walls;
use crate::machine::bus::BusDevice;
use crate::machine::events::{Watcher, decode};
use crate::machine::seccomp::Kind;
use crate::machine::serial::Console;
use crate::machine::virtio::mmio::Transport;
use crate::machine::virtio::rng::Rng;
use crate::machine::virtio::window::Window;
use crate::machine::virtio::{Interrupt, VirtioDevice};

/// Apart from each other: the queues' tables and rings. The bystander has the last.
const QUEUES: u64 = 0x1_0000;
/// From a queue's place: its descriptors, then the driver's ring, then the device's.
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;
const RING_BYTES: u64 = 6 + 8 * MOST as u64;
/// Where indirect tables are.
const TABLES: u64 = 0x6_0000;
const BYSTANDER: u64 = 0x5;
/// What is compared at once.
const PAGE: usize = 4096;
/// Events after which a thread that is still not at rest never will be. A queue is drained in one, or in its size.
const TURNS: usize = 4000;
/// `NEEDS_RESET`, `DRIVER_OK`, and all that a driver sets on its way.
pub(super) const NEEDS_RESET: u32 = 64;
const STEPS: [u32; 4] = [1, 3, 11, 15];

pub(super) struct Driver {
    /// Makes another device of the kind.
    make: Make,
    subject: Subject,
    epoll: Arc<Epoll>,
    /// The device, and one that must not notice.
    devices: Arc<[Transport; 2]>,
    /// Who touches them; this thread, unless there are others for it.
    #[cfg(test)]
    walls: Option<Walls>,
    /// Where the next chain of each queue begins in its table, and what its ring's index is.
    queues: [(u16, u16); 4],
    sizes: [u16; 4],
    /// The next indirect table.
    table: u64,
    /// What the device may write to.
    writable: Vec<Range<u64>>,
    /// What it may write to can't be told: a descriptor points to other descriptors.
    wild: bool,
    /// Memory as the driver left it.
    before: Vec<u8>,
    /// Behind the devices, which are gone before it.
    memory: Memory,
}

fn transport(
    memory: &GuestMemoryMmap,
    epoll: &Arc<Epoll>,
    number: u32,
    device: Box<dyn VirtioDevice>,
) -> Transport {
    Transport::new(
        "device".into(),
        device,
        memory.clone(),
        Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap(), Window::apart().unwrap()),
        Watcher::new(Arc::clone(epoll), number),
        Arc::new(Console::new(file())),
    )
    .unwrap()
}

impl Driver {
    pub(super) fn new(make: Make) -> Self {
        let mut subject = make();
        let memory = Memory::new();
        let epoll = Arc::new(Epoll::new().unwrap());
        let device = subject.device.take().unwrap();
        let beside = Box::new(Rng::default());
        let devices =
            [transport(&memory.guest, &epoll, 0, device), transport(&memory.guest, &epoll, 1, beside)];
        let before = vec![0; usize::try_from(MEMORY).unwrap()];
        let mut driver = Self {
            make,
            subject,
            epoll,
            devices: Arc::new(devices),
            #[cfg(test)]
            walls: None,
            queues: [(0, 0); 4],
            sizes: [0; 4],
            table: TABLES,
            writable: Vec::new(),
            wild: false,
            before,
            memory,
        };
        driver.start(1, [4; 3], u32::MAX);
        driver
    }

    /// The same, whose devices are touched by these threads alone.
    #[cfg(test)]
    pub(super) fn between(make: Make, walls: Walls) -> Self {
        Self { walls: Some(walls), ..Self::new(make) }
    }

    /// Does something with the devices, as that kind of thread does it.
    fn on<R: Send + 'static>(
        &self,
        kind: Kind,
        what: impl FnOnce(&[Transport; 2]) -> R + Send + 'static,
    ) -> R {
        #[cfg(test)]
        if let Some(walls) = &self.walls {
            let devices = Arc::clone(&self.devices);
            return walls.run(kind, move || what(&devices));
        }
        let _ = kind;
        what(&self.devices)
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Start { sizes, features } => self.start(0, *sizes, *features),
            Step::Chain { queue, parts, indirect, seed, bytes } => {
                let made;
                let content = if bytes.is_empty() {
                    made = (self.subject.content)(*seed);
                    &made
                } else {
                    bytes
                };
                self.chain(*queue, parts, *indirect, content);
            }
            Step::Descriptor { queue, at, address, length, flags, next } => {
                self.descriptor(place(*queue) + 16 * u64::from(at % MOST), *address, *length, *flags, *next);
                self.wild |= u32::from(*flags) & VRING_DESC_F_INDIRECT != 0;
            }
            Step::Available { queue, more } => {
                let index = &mut self.queues[usize::from(*queue % 4)].1;
                *index = index.wrapping_add(*more);
                let index = *index;
                self.put(place(*queue) + AVAILABLE + 2, &index.to_le_bytes());
            }
            Step::Entry { queue, at, head } => {
                self.put(place(*queue) + AVAILABLE + 4 + 2 * u64::from(at % MOST), &head.to_le_bytes());
            }
            Step::Used { queue, index } => self.put(place(*queue) + USED + 2, &index.to_le_bytes()),
            Step::Kick { queue } => self.write(0, register::VIRTIO_MMIO_QUEUE_NOTIFY, u32::from(*queue)),
            Step::Register { offset, value, width } => {
                let bytes = u64::from(*value).to_le_bytes();
                let (offset, width) = (*offset, usize::from(*width));
                // A queue may be anywhere now.
                self.wild |= (0x80..0xa8).contains(&offset);
                self.on(Kind::Vcpu, move |[device, _]| {
                    device.write(offset.into(), &bytes[..width]);
                    device.read(offset.into(), &mut [0; 8][..width]);
                });
            }
            Step::Host { seed } => (self.subject.host)(*seed),
            Step::Plug => self.plug()?,
            Step::Unplug => self.on(Kind::Main, |[device, _]| device.unplug()),
        }
        self.rest()
    }

    /// Serves the devices until nothing is left to do.
    fn rest(&mut self) -> Result<(), String> {
        let mut events = [EpollEvent::default(); 8];
        for _ in 0..TURNS {
            let count = self.epoll.wait(0, &mut events).map_err(|error| error.to_string())?;
            if count == 0 {
                return Ok(());
            }
            for event in &events[..count] {
                let (device, token) = decode(event);
                self.on(Kind::Device, move |devices| devices[usize::try_from(device).unwrap()].handle(token));
            }
        }
        Err("the device's thread never rests".into())
    }

    /// The driver comes to its senses.
    pub(super) fn end(mut self) -> Result<(), String> {
        self.plug()?;
        self.write(0, register::VIRTIO_MMIO_STATUS, 0);
        let status = self.status(0);
        if self.subject.writes_where_it_may && !self.wild {
            self.untouched()?;
        }
        (self.subject.check)()?;
        if !self.subject.heals {
            // It may not have come as far as to be started; then it still can be.
            self.start(0, [3; 3], u32::MAX);
            self.rest()?;
        }
        if self.subject.heals {
            if status != 0 {
                return Err(format!("a reset leaves the status {status:#x}"));
            }
            self.put(0, &vec![0; usize::try_from(TABLES).unwrap()]);
            self.start(0, [3; 3], u32::MAX);
            (0..3).for_each(|queue| self.write(0, register::VIRTIO_MMIO_QUEUE_NOTIFY, queue));
            self.rest()?;
            if self.status(0) != STEPS[3] {
                return Err(format!("a driver that is good finds the status {:#x}", self.status(0)));
            }
        }
        self.bystander()?;
        self.on(Kind::Device, |devices| devices.iter().for_each(Transport::close));
        Ok(())
    }

    /// The other device fills a buffer as ever.
    fn bystander(&mut self) -> Result<(), String> {
        let at = MEMORY - 64;
        self.start(1, [4; 3], NO_EVENT_INDEX);
        self.put(at, &[0; 64]);
        self.descriptor(BYSTANDER * QUEUES, at, 64, VRING_DESC_F_WRITE.try_into().unwrap(), 0);
        self.put(BYSTANDER * QUEUES + AVAILABLE, &[0, 0, 1, 0, 0, 0]);
        self.write(1, register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        self.rest()?;
        let mut buffer = [0; 64];
        self.memory.guest.read_slice(&mut buffer, GuestAddress(at)).unwrap();
        if buffer.iter().any(|byte| *byte != 0) {
            Ok(())
        } else {
            Err("the device beside it no longer answers".into())
        }
    }

    /// Writes a number somewhere into its queues, tables and buffers, from another thread; what it may write to is not
    /// known from then on.
    #[cfg(test)]
    pub(super) fn scribbler(&mut self) -> impl Fn(u64) + Send + use<> {
        self.wild = true;
        let memory = self.memory.guest.clone();
        move |number| {
            let place = [
                number >> 20 & 0x3f,
                AVAILABLE + (number >> 20 & 0x3f),
                TABLES + (number >> 20 & 0x1ff),
                DATA + (number >> 20 & 0xfff),
            ][usize::try_from(number >> 60 & 3).unwrap()];
            let queue = if place < TABLES { (number >> 58 & 3) * QUEUES } else { 0 };
            let value = u16::try_from(number >> 40 & 0xffff).unwrap();
            let value = if value & 3 == 0 { value } else { value & 7 };
            memory.write_slice(&value.to_le_bytes(), GuestAddress(queue + place)).unwrap();
        }
    }

    /// The device that comes has a host's side of its own; that of the one before it is at its end.
    fn plug(&mut self) -> Result<(), String> {
        if !self.devices[0].is_empty() {
            return Ok(());
        }
        let mut before = mem::replace(&mut self.subject, (self.make)());
        let device = self.subject.device.take().unwrap();
        self.on(Kind::Main, |[slot, _]| slot.plug(device)).map_err(|error| error.to_string())?;
        (before.check)()
    }

    fn start(&mut self, device: usize, sizes: [u8; 3], features: u32) {
        self.write(device, register::VIRTIO_MMIO_STATUS, 0);
        for status in STEPS {
            if status == STEPS[2] {
                self.write(device, register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
                let offered = self.read(device, register::VIRTIO_MMIO_DEVICE_FEATURES);
                for (select, value) in [(0, offered & self.subject.features & features), (1, 1)] {
                    self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
                    self.write(device, register::VIRTIO_MMIO_DRIVER_FEATURES, value);
                }
            }
            if status == STEPS[3] {
                self.queues_of(device, sizes);
            }
            self.write(device, register::VIRTIO_MMIO_STATUS, status);
        }
    }

    fn queues_of(&mut self, device: usize, sizes: [u8; 3]) {
        for (queue, power) in (0_u32..).zip(sizes) {
            self.write(device, register::VIRTIO_MMIO_QUEUE_SEL, queue);
            let most = self.read(device, register::VIRTIO_MMIO_QUEUE_NUM_MAX);
            if most == 0 {
                continue;
            }
            // Of those that are too large for the device, most are made to fit.
            let size = if power < 10 { most.min(1 << power) } else { 1 << power };
            let start = if device == 0 { u64::from(queue) } else { BYSTANDER } * QUEUES;
            let low = |address: u64| u32::try_from(address).unwrap();
            self.write(device, register::VIRTIO_MMIO_QUEUE_NUM, size);
            self.write(device, register::VIRTIO_MMIO_QUEUE_DESC_LOW, low(start));
            self.write(device, register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, low(start + AVAILABLE));
            self.write(device, register::VIRTIO_MMIO_QUEUE_USED_LOW, low(start + USED));
            self.write(device, register::VIRTIO_MMIO_QUEUE_READY, 1);
            self.put(start + AVAILABLE, &[0; 4]);
            self.put(start + USED, &[0; 4]);
            if device == 0 {
                let at = usize::try_from(queue).unwrap();
                (self.queues[at], self.sizes[at]) = ((0, 0), u16::try_from(size).unwrap_or(MOST));
            }
        }
    }

    fn chain(&mut self, queue: u8, parts: &[Part], indirect: bool, mut content: &[u8]) {
        let at = usize::from(queue % 4);
        let size = self.sizes[at].clamp(1, MOST);
        let (first, index) = self.queues[at];
        let mut head = first;
        let start = if indirect {
            self.table = if self.table + 128 > DATA { TABLES } else { self.table + 128 };
            head = 0;
            self.table
        } else {
            place(queue)
        };
        for (number, part) in parts.iter().enumerate() {
            if !part.writable && part.address >= DATA && part.address < MEMORY - 0x1_0000 {
                let (now, later) =
                    content.split_at(content.len().min(usize::try_from(part.length).unwrap_or(0)));
                self.put(part.address, now);
                content = later;
            }
            let last = number + 1 == parts.len();
            let next = if indirect { head + 1 } else { (head + 1) % size };
            let flags =
                if last { 0 } else { VRING_DESC_F_NEXT } | if part.writable { VRING_DESC_F_WRITE } else { 0 };
            self.descriptor(
                start + 16 * u64::from(head),
                part.address,
                part.length,
                flags.try_into().unwrap(),
                next,
            );
            head = next;
        }
        if indirect {
            let length = u32::try_from(16 * parts.len()).unwrap();
            self.descriptor(
                place(queue) + 16 * u64::from(first),
                start,
                length,
                VRING_DESC_F_INDIRECT.try_into().unwrap(),
                0,
            );
            head = (first + 1) % size;
        }
        self.put(place(queue) + AVAILABLE + 4 + 2 * u64::from(index % size), &first.to_le_bytes());
        let index = index.wrapping_add(1);
        self.put(place(queue) + AVAILABLE + 2, &index.to_le_bytes());
        self.queues[at] = (head, index);
    }

    fn descriptor(&mut self, at: u64, address: u64, length: u32, flags: u16, next: u16) {
        let bytes =
            [&address.to_le_bytes()[..], &length.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.put(at, &bytes.concat());
        if u32::from(flags) & VRING_DESC_F_WRITE != 0 {
            self.writable.push(address..address.saturating_add(length.into()));
            self.wild |= address < DATA;
        }
    }

    /// The driver writes into its memory.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory.guest.write_slice(bytes, GuestAddress(at)).unwrap();
        let at = usize::try_from(at).unwrap();
        self.before[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Memory is as the driver left it, but for where a device may write.
    fn untouched(&self) -> Result<(), String> {
        let used =
            |at: u64| (0..4).any(|queue| (0..RING_BYTES).contains(&at.wrapping_sub(queue * QUEUES + USED)));
        let allowed = |at: u64| {
            used(at) || at / QUEUES == BYSTANDER || self.writable.iter().any(|range| range.contains(&at))
        };
        let mut page = [0; PAGE];
        for (start, before) in (0..MEMORY).step_by(PAGE).zip(self.before.chunks(PAGE)) {
            self.memory.guest.read_slice(&mut page, GuestAddress(start)).unwrap();
            if page[..] == *before {
                continue;
            }
            let changed = (start..).zip(page.iter().zip(before)).filter(|(_, (is, was))| is != was);
            if let Some(at) = changed.map(|(at, _)| at).find(|at| !allowed(*at)) {
                return Err(format!("it wrote at {at:#x}"));
            }
        }
        Ok(())
    }

    pub(super) fn status(&self, device: usize) -> u32 {
        self.read(device, register::VIRTIO_MMIO_STATUS) & (NEEDS_RESET | STEPS[3])
    }

    fn read(&self, device: usize, offset: u32) -> u32 {
        self.on(Kind::Vcpu, move |devices| {
            let mut bytes = [0; 4];
            devices[device].read(offset.into(), &mut bytes);
            u32::from_le_bytes(bytes)
        })
    }

    fn write(&self, device: usize, offset: u32, value: u32) {
        self.on(Kind::Vcpu, move |devices| devices[device].write(offset.into(), &value.to_le_bytes()));
    }
}

/// Where a queue is. Of those that no device has, one is of nobody.
fn place(queue: u8) -> u64 {
    u64::from(queue % 4) * QUEUES
}
