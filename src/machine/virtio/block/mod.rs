//! The block device (VIRTIO 1.2, section 5.2): requests of the guest against a [`Disk`].
//!
//! `request.rs` parses and checks, `job.rs` says which operation is next, `operation.rs` is one system call, `engine.rs`
//! decides whether it is made here or by the kernel meanwhile (`ring.rs`), `disk.rs` and `composed.rs` say where the
//! bytes are, and this file answers.
//!
//! One queue, whatever the number of processors: one thread serves it, the transport has one interrupt for all queues,
//! and each further queue would cost the guest its requests and tags (some 100 KiB) at every start.

pub mod composed;
pub mod disk;
mod engine;
mod job;
mod operation;
mod request;
mod ring;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::epoll::EventSet;

use self::disk::Disk;
use self::engine::{Engine, Finished};
use self::job::{Job, Transfer, Work};
use self::operation::Direction;
use self::request::{Action, Limits, MAX_RANGE_SECTORS, MAX_SEGMENTS, Request};
use self::ring::Ring;
pub use self::ring::Rings;
use super::limiter::Limiter;
use super::worker::Served;
use super::{
    ActivateError, Active, Chain, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice,
};
use crate::config::Throttle;
use crate::machine::events::Watcher;

/// The one queue (without `VIRTIO_BLK_F_MQ`, section 5.2.2).
const QUEUE: u16 = 0;
/// The ids of the ring's descriptor and the limiter's in the event loop.
const RING: u32 = 0;
const LIMIT: u32 = 1;
/// 256, as Firecracker and QEMU have.
pub const QUEUE_SIZES: &[u16] = &[256];
/// Bytes of one turn, after which the other devices have theirs: they are moved at once where they are in memory.
const TURN: u64 = 4 << 20;
/// What the driver is to use as its smallest unit; file systems have blocks of at least this.
const BLOCK_SIZE: u32 = 512;
/// Bytes of `struct virtio_blk_config` up to `write_zeroes_may_unmap` and its padding (section 5.2.4).
const CONFIG_BYTES: usize = 60;

/// The block device.
#[derive(Debug)]
pub struct Block {
    engine: Engine,
    limits: Limits,
    id: [u8; ID_BYTES],
    config: [u8; CONFIG_BYTES],
    limiter: Option<Limiter>,
    /// Bytes that were begun in this turn of the event loop.
    turn: u64,
    running: Option<Running>,
    /// Whose the ring is.
    lender: Option<Arc<Rings>>,
}

const ID_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

#[derive(Debug)]
struct Running {
    memory: GuestMemoryMmap,
    queue: DeviceQueue,
    interrupt: Interrupt,
    watcher: Watcher,
    /// Chains may wait in the queue for room in the engine.
    full: bool,
}

impl Block {
    /// A device for that disk. `id` is what the guest reads as its serial number, cut at 20 bytes.
    pub fn new(disk: Box<dyn Disk>, read_only: bool, id: &str) -> Self {
        Self::with(Engine::new(disk, Ring::new()), read_only, id)
    }

    /// The same with a ring of `rings`, which gets it back, or without one where none is left.
    pub fn on_lent(disk: Box<dyn Disk>, read_only: bool, id: &str, rings: &Arc<Rings>) -> Self {
        let mut block = Self::with(Engine::new(disk, rings.take()), read_only, id);
        block.lender = Some(Arc::clone(rings));
        block
    }

    /// The same where the host has no io_uring.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn without_ring(disk: Box<dyn Disk>, read_only: bool, id: &str) -> Self {
        Self::with(Engine::new(disk, None), read_only, id)
    }

    fn with(engine: Engine, read_only: bool, id: &str) -> Self {
        let limits = Limits { sectors: engine.sectors(), read_only };
        let mut name = [0; ID_BYTES];
        for (to, from) in name.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self {
            engine,
            limits,
            id: name,
            config: config(limits),
            limiter: None,
            turn: 0,
            running: None,
            lender: None,
        }
    }

    /// The same, held to a limit.
    ///
    /// # Errors
    /// As [`Limiter::new`].
    pub fn limited(mut self, throttle: Throttle) -> io::Result<Self> {
        self.limiter = Limiter::new(throttle)?;
        Ok(self)
    }

    fn serve<'m>(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<Served, DeviceError> {
        let head = chain.head_index();
        let Request { action, status, writable } = Request::parse(memory, chain, self.limits)?;
        let bytes = action.bytes();
        self.turn = self.turn.saturating_add(bytes);
        let may = match &mut self.limiter {
            None => true,
            Some(limiter) => {
                limiter.took(bytes);
                limiter.may().map_err(timer)?
            }
        };
        let more = may && self.turn < TURN;
        let now = |length| if more { Served::Now(length) } else { Served::NowAndNoMore(length) };
        let work = match action {
            Action::Answer(answer) => return answered(memory, status, answer, writable).map(now),
            Action::Id { buffers } => {
                let answer =
                    if copy(&self.id, &buffers).is_ok() { VIRTIO_BLK_S_OK } else { VIRTIO_BLK_S_IOERR };
                return answered(memory, status, answer, writable).map(now);
            }
            Action::Read { offset, buffers } => {
                Work::Transfer(Transfer::new(Direction::Read, offset, &buffers))
            }
            Action::Write { offset, buffers } => {
                Work::Transfer(Transfer::new(Direction::Write, offset, &buffers))
            }
            Action::Flush => Work::Flush { done: false },
            Action::Discard { offset, length } => {
                Work::Allocate { modes: job::DISCARD, offset, length, done: false }
            }
            Action::WriteZeroes { offset, length, unmap } => {
                let modes = if unmap { job::ZERO_AND_UNMAP } else { job::ZERO };
                Work::Allocate { modes, offset, length, done: false }
            }
        };
        match self.engine.begin(Job { head, status, writable, work }) {
            Some(finished) => answer(memory, &finished).map(now),
            None if more && self.engine.has_room() => Ok(Served::Later),
            None => Ok(Served::LaterAndNoMore),
        }
    }

    /// The driver kicked: begins what it asks for.
    fn begin(&mut self, running: &mut Running) -> Result<(), DeviceError> {
        let Running { memory, queue, interrupt, full, .. } = running;
        *full = !self.engine.has_room();
        // If it may not, the limiter calls again; what is in the queue stays there.
        let may = self.limiter.as_mut().map_or(Ok(true), Limiter::may).map_err(timer)?;
        if may && !*full {
            self.turn = 0;
            let result = queue.drain(memory, interrupt, |chain| self.serve(memory, chain));
            *full = !self.engine.has_room();
            result?;
            if self.turn >= TURN && !*full {
                // If a limit holds it, that turn has nothing to do.
                queue.kick_self()?;
            }
        }
        self.submit(queue)?;
        // Some of it is done already.
        self.complete(running)
    }

    /// The ring has results.
    fn complete(&mut self, running: &mut Running) -> Result<(), DeviceError> {
        let Running { memory, queue, interrupt, full, .. } = running;
        let mut used = false;
        while let Some(finished) = self.engine.next() {
            let length = answer(memory, &finished)?;
            queue.push(memory, finished.0.head, length)?;
            used = true;
        }
        if used {
            queue.notify(memory, interrupt)?;
        }
        if *full && self.engine.has_room() {
            *full = false;
            queue.kick_self()?;
        }
        self.submit(queue)
    }

    fn submit(&mut self, queue: &DeviceQueue) -> Result<(), DeviceError> {
        match self.engine.submit() {
            Ok(true) => Ok(()),
            Ok(false) => queue.kick_self(),
            Err(source) => Err(DeviceError::Host { what: "give work to the io_uring", source }),
        }
    }
}

fn timer(source: io::Error) -> DeviceError {
    DeviceError::Host { what: "set a timer", source }
}

/// Answers a request that is over; returns the bytes written into its chain.
fn answer(memory: &GuestMemoryMmap, (job, result): &Finished) -> Result<u32, DeviceError> {
    answered(memory, job.status, job::status(result), job.writable)
}

fn answered(
    memory: &GuestMemoryMmap,
    place: GuestAddress,
    status: u32,
    writable: u32,
) -> Result<u32, DeviceError> {
    let byte = u8::try_from(status).expect("a status of section 5.2.6");
    memory.write_obj(byte, place).map_err(|_| DeviceError::Chain { reason: "a status outside of memory" })?;
    Ok(if status == VIRTIO_BLK_S_OK { writable } else { 1 })
}

/// Copies into the guest's buffers, whose lengths were checked.
fn copy(mut bytes: &[u8], buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
    for buffer in buffers {
        let (part, rest) = bytes.split_at(buffer.len().min(bytes.len()));
        buffer.write_slice(part, 0).map_err(|error| io::Error::other(error.to_string()))?;
        bytes = rest;
    }
    Ok(())
}

/// `struct virtio_blk_config` (section 5.2.4); what belongs to features that are not offered stays 0.
fn config(limits: Limits) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &limits.sectors.to_le_bytes()); // capacity
    put(12, &MAX_SEGMENTS.to_le_bytes()); // seg_max
    put(20, &BLOCK_SIZE.to_le_bytes()); // blk_size
    if !limits.read_only {
        put(36, &MAX_RANGE_SECTORS.to_le_bytes()); // max_discard_sectors
        put(40, &1_u32.to_le_bytes()); // max_discard_seg
        put(44, &8_u32.to_le_bytes()); // discard_sector_alignment: the host's file system has blocks of 4 KiB
        put(48, &MAX_RANGE_SECTORS.to_le_bytes()); // max_write_zeroes_sectors
        put(52, &1_u32.to_le_bytes()); // max_write_zeroes_seg
        put(56, &[1]); // write_zeroes_may_unmap
    }
    config
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(lender) = &self.lender
            && let Some(ring) = self.engine.end()
        {
            lender.give(ring);
        }
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        let always = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH;
        let writable = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
        always | if self.limits.read_only { 1 << VIRTIO_BLK_F_RO } else { writable }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let Active { memory, queues, interrupt, watcher, .. } = active;
        let [queue] = <[DeviceQueue; 1]>::try_from(queues).map_err(|queues| ActivateError::Queues {
            device: DeviceType::Block,
            expected: QUEUE_SIZES.len(),
            got: queues.len(),
        })?;
        if let Some(ring) = self.engine.ring() {
            // Edges: a device that gave up is called no more, and what it leaves in the ring must not spin the loop.
            watcher
                .watch(ring.fd(), RING, EventSet::IN | EventSet::EDGE_TRIGGERED)
                .map_err(|source| ActivateError::Watch { device: DeviceType::Block, source })?;
        }
        if let Some(limiter) = &self.limiter {
            limiter
                .watch(&watcher, LIMIT)
                .map_err(|source| ActivateError::Watch { device: DeviceType::Block, source })?;
        }
        self.running = Some(Running { memory, queue, interrupt, watcher, full: false });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let Some(mut running) = self.running.take() else {
            return Err(DeviceError::Unexpected { token: event });
        };
        let result = match event {
            Token::Queue(QUEUE) | Token::Source { id: LIMIT, .. } => self.begin(&mut running),
            Token::Source { id: RING, .. } => self.complete(&mut running),
            _ => Err(DeviceError::Unexpected { token: event }),
        };
        self.running = Some(running);
        result
    }

    fn reset(&mut self) -> bool {
        // Nothing may write into guest memory, or to the disk, once the driver knows that the device was reset.
        let quiet = self.engine.reset();
        if let Some(running) = self.running.take() {
            if let Some(ring) = self.engine.ring() {
                // Not watched when the activation failed.
                let _ = running.watcher.unwatch(ring.fd());
            }
            if let Some(limiter) = &self.limiter {
                limiter.unwatch(&running.watcher);
            }
        }
        quiet
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_blk::{
        VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    };
    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::GuestAddress;

    use super::super::test_support::device_queue;
    use super::disk::RawFile;
    use super::*;

    fn disk(read_only: bool) -> (tempfile::NamedTempFile, Block) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = RawFile::open(file.path(), read_only).unwrap();
        (file, Block::new(Box::new(disk), read_only, "disk0"))
    }

    /// A request of three buffers at 0x8000 + 0x2000 * index.
    fn ask(memory: &GuestMemoryMmap, index: u64, kind: u32, length: u32, read: bool) -> [RawDescriptor; 3] {
        let base = 0x8_0000 + 0x2000 * index;
        memory.write_obj(kind, GuestAddress(base)).unwrap();
        memory.write_obj(8_u64, GuestAddress(base + 8)).unwrap();
        memory.write_obj(0xff_u8, GuestAddress(base + 16)).unwrap();
        let descriptor = |address, length, flags| {
            let next = u16::try_from(index * 3 + if address == base { 1 } else { 2 }).unwrap();
            RawDescriptor::from(Descriptor::new(address, length, u16::try_from(flags).unwrap(), next))
        };
        let write = if read { VRING_DESC_F_WRITE } else { 0 };
        [
            descriptor(base, 16, VRING_DESC_F_NEXT),
            descriptor(base + 0x1000, length, VRING_DESC_F_NEXT | write),
            descriptor(base + 16, 1, VRING_DESC_F_WRITE),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_on_the_disk() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 16);
        let (file, mut device) = disk(false);
        let descriptors = [
            ask(&memory, 0, VIRTIO_BLK_T_OUT, 512, false),
            ask(&memory, 1, VIRTIO_BLK_T_IN, 512, true),
            ask(&memory, 2, VIRTIO_BLK_T_GET_ID, 20, true),
        ];
        memory.write_slice(&[7; 512], GuestAddress(0x8_1000)).unwrap();
        mock.add_desc_chains(descriptors.as_flattened(), 0).unwrap();
        let (active, interrupt) = device_queue(&memory, &mock);
        device.activate(active).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        for base in [0x8_0000, 0x8_2000, 0x8_4000] {
            assert_eq!(memory.read_obj::<u8>(GuestAddress(base + 16)).unwrap(), 0);
        }
        assert_eq!(memory.read_obj::<[u8; 32]>(GuestAddress(0x8_3000)).unwrap(), [7; 32]);
        assert_eq!(&memory.read_obj::<[u8; 8]>(GuestAddress(0x8_5000)).unwrap(), b"disk0\0\0\0");
        assert_eq!(std::fs::read(file.path()).unwrap()[4096..4608], [7; 512]);
        assert_eq!((interrupt.status(), mock.used().idx().load()), (1, 3));
    }

    #[test]
    fn a_read_only_disk_answers_a_write_by_an_error() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 16);
        let (_file, mut device) = disk(true);
        assert_ne!(device.features() & 1 << VIRTIO_BLK_F_RO, 0);
        mock.add_desc_chains(&ask(&memory, 0, VIRTIO_BLK_T_OUT, 512, false), 0).unwrap();
        let (active, _) = device_queue(&memory, &mock);
        device.activate(active).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x8_0010)).unwrap(), 1);
    }

    #[test]
    fn what_goes_beyond_the_limit_waits_in_the_queue() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 16);
        let (_file, device) = disk(false);
        let mut device = device.limited("bytes=10K,bytes-burst=1K".parse().unwrap()).unwrap();
        let descriptors: Vec<_> =
            (0..3).flat_map(|index| ask(&memory, index, VIRTIO_BLK_T_IN, 2048, true)).collect();
        mock.add_desc_chains(&descriptors, 0).unwrap();
        let (active, _) = device_queue(&memory, &mock);
        let began = std::time::Instant::now();
        device.activate(active).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        let used = mock.used().idx().load();
        assert!(used <= 1 || began.elapsed().as_millis() >= 100, "a burst and no more: {used}");
        // As the timer would call it, and much more often.
        while mock.used().idx().load() < 3 {
            assert!(began.elapsed().as_secs() < 60);
            device.handle(Token::Source { id: LIMIT, events: EventSet::IN }).unwrap();
            device.handle(Token::Source { id: RING, events: EventSet::IN }).unwrap();
        }
        // The first is twice a burst: the second begins when its debt of half is paid, the third when that of a whole is.
        assert!(began.elapsed().as_millis() >= 300, "{:?}", began.elapsed());
    }

    #[test]
    fn a_turn_has_its_bytes_and_the_next_one_comes_by_itself() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 64);
        let (_file, mut device) = disk(false);
        let count = 16_u16;
        let descriptors: Vec<_> = (0..count.into())
            .flat_map(|index| ask(&memory, index, VIRTIO_BLK_T_IN, 512 << 10, true))
            .collect();
        mock.add_desc_chains(&descriptors, 0).unwrap();
        let (active, _) = device_queue(&memory, &mock);
        let kick = active.queues[0].kick.try_clone().unwrap();
        device.activate(active).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        let (first, began) = (mock.used().idx().load(), std::time::Instant::now());
        assert!(first <= 8, "{first} requests of half a MiB in one turn");
        while mock.used().idx().load() < count {
            assert!(began.elapsed().as_secs() < 60);
            // As the loop does, and only then.
            if kick.read().is_ok() {
                device.handle(Token::Queue(0)).unwrap();
            }
            device.handle(Token::Source { id: RING, events: EventSet::IN }).unwrap();
        }
    }

    #[test]
    fn config_has_the_fields_of_section_5_2_4() {
        let (_file, device) = disk(false);
        assert_eq!(device.config()[..8], 2048_u64.to_le_bytes());
        assert_eq!((device.config()[12], device.config()[21]), (254, 2));
    }

    /// Lets the device answer until `count` chains are used.
    fn run(device: &mut Block, mock: &MockSplitQueue<'_, GuestMemoryMmap>, count: u16) {
        let began = std::time::Instant::now();
        device.handle(Token::Queue(0)).unwrap();
        while mock.used().idx().load() != count {
            assert!(began.elapsed().as_secs() < 60, "{} of {count}", mock.used().idx().load());
            std::thread::yield_now();
            device.handle(Token::Source { id: RING, events: EventSet::IN }).unwrap();
            device.handle(Token::Queue(0)).unwrap();
        }
    }

    #[test]
    fn what_takes_long_is_answered_later_however_much_it_is() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 256);
        let (file, mut device) = disk(false);
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        // More than there is room for in the ring.
        let count = ring::ROOM + 16;
        let (header, status) = (GuestAddress(0x8_0000), GuestAddress(0x9_0000));
        memory.write_obj(VIRTIO_BLK_T_DISCARD, header).unwrap();
        memory.write_slice(&[0xff; 256], status).unwrap();
        memory.write_obj(8_u64, GuestAddress(0x8_0010)).unwrap();
        memory.write_obj(8_u32, GuestAddress(0x8_0018)).unwrap();
        memory.write_obj(0_u32, GuestAddress(0x8_001c)).unwrap();
        let write = u16::try_from(VRING_DESC_F_WRITE).unwrap();
        let next = u16::try_from(VRING_DESC_F_NEXT).unwrap();
        let descriptors: Vec<RawDescriptor> = (0..count)
            .flat_map(|index| {
                let place = status.0 + u64::from(index);
                [Descriptor::new(header.0, 32, next, index * 2 + 1), Descriptor::new(place, 1, write, 0)]
            })
            .map(RawDescriptor::from)
            .collect();
        mock.add_desc_chains(&descriptors, 0).unwrap();
        let (active, interrupt) = device_queue(&memory, &mock);
        device.activate(active).unwrap();
        run(&mut device, &mock, count);
        for index in 0..u64::from(count) {
            assert_eq!(memory.read_obj::<u8>(GuestAddress(status.0 + index)).unwrap(), 0, "{index}");
        }
        assert_eq!(memory.read_obj::<u8>(GuestAddress(status.0 + u64::from(count))).unwrap(), 0xff);
        assert_eq!(interrupt.status(), 1);
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!((bytes[4095], bytes[4096], bytes[8191], bytes[8192]), (7, 0, 0, 7));
        assert!(device.reset());
    }
}
