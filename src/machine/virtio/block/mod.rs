//! The block device (VIRTIO 1.2, section 5.2): requests of the guest against a [`Disk`].
//!
//! `request.rs` parses and checks, this file executes, `disk.rs` holds the bytes, `composed.rs` finds them elsewhere. Requests are executed one after the
//! other on the device thread, which sleeps in the kernel while the host's disk works. A thread per disk would cost
//! memory and a wake-up for each request, and the page cache of the host answers most of them at once.

pub mod composed;
pub mod disk;
mod request;

use std::io::{self, ErrorKind};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use vm_memory::{Bytes, GuestMemoryMmap, VolatileSlice};

use self::disk::Disk;
use self::request::{Action, Limits, MAX_RANGE_SECTORS, MAX_SEGMENTS, Request};
use super::{
    ActivateError, Active, Chain, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice,
};

/// The one queue (without `VIRTIO_BLK_F_MQ`, section 5.2.2).
const QUEUE: u16 = 0;
/// 256, as Firecracker and QEMU have.
const QUEUE_SIZES: &[u16] = &[256];
/// What the driver is to use as its smallest unit; file systems have blocks of at least this.
const BLOCK_SIZE: u32 = 512;
/// Bytes of `struct virtio_blk_config` up to `write_zeroes_may_unmap` and its padding (section 5.2.4).
const CONFIG_BYTES: usize = 60;

/// The block device.
#[derive(Debug)]
pub struct Block {
    disk: Box<dyn Disk>,
    limits: Limits,
    id: [u8; ID_BYTES],
    config: [u8; CONFIG_BYTES],
    running: Option<Running>,
}

const ID_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

#[derive(Debug)]
struct Running {
    memory: GuestMemoryMmap,
    queue: DeviceQueue,
    interrupt: Interrupt,
}

impl Block {
    /// A device for that disk. `id` is what the guest reads as its serial number, cut at 20 bytes.
    pub fn new(disk: Box<dyn Disk>, read_only: bool, id: &str) -> Self {
        let limits = Limits { sectors: disk.sectors(), read_only };
        let mut name = [0; ID_BYTES];
        for (to, from) in name.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self { disk, limits, id: name, config: config(limits), running: None }
    }

    fn serve<'m>(&mut self, memory: &'m GuestMemoryMmap, chain: Chain<'m>) -> Result<u32, DeviceError> {
        let request = Request::parse(memory, chain, self.limits)?;
        let status = match self.execute(&request.action) {
            Ok(status) => status,
            Err(error) if error.kind() == ErrorKind::Unsupported => VIRTIO_BLK_S_UNSUPP,
            Err(_) => VIRTIO_BLK_S_IOERR,
        };
        let byte = u8::try_from(status).expect("a status of section 5.2.6");
        memory
            .write_obj(byte, request.status)
            .map_err(|_| DeviceError::Chain { reason: "a status outside of memory" })?;
        Ok(if status == VIRTIO_BLK_S_OK { request.writable } else { 1 })
    }

    fn execute(&mut self, action: &Action<'_>) -> io::Result<u32> {
        match action {
            Action::Read { offset, buffers } => self.disk.read(*offset, buffers)?,
            Action::Write { offset, buffers } => self.disk.write(*offset, buffers)?,
            Action::Flush => self.disk.flush()?,
            Action::Id { buffers } => copy(&self.id, buffers)?,
            Action::Discard { offset, length } => self.disk.discard(*offset, *length)?,
            Action::WriteZeroes { offset, length, unmap } => {
                self.disk.write_zeroes(*offset, *length, *unmap)?
            }
            Action::Answer(status) => return Ok(*status),
        }
        Ok(VIRTIO_BLK_S_OK)
    }
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
        let Active { memory, queues, interrupt, .. } = active;
        let [queue] = <[DeviceQueue; 1]>::try_from(queues).map_err(|queues| ActivateError::Queues {
            device: DeviceType::Block,
            expected: QUEUE_SIZES.len(),
            got: queues.len(),
        })?;
        self.running = Some(Running { memory, queue, interrupt });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let (Some(mut running), Token::Queue(QUEUE)) = (self.running.take(), event) else {
            return Err(DeviceError::Unexpected { token: event });
        };
        let Running { memory, queue, interrupt } = &mut running;
        let result = queue.drain(memory, interrupt, |chain| self.serve(memory, chain));
        self.running = Some(running);
        result
    }

    fn reset(&mut self) -> bool {
        // Nothing is in flight: every request is finished before its chain is returned.
        self.running = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
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
    fn config_has_the_fields_of_section_5_2_4() {
        let (_file, device) = disk(false);
        assert_eq!(device.config()[..8], 2048_u64.to_le_bytes());
        assert_eq!((device.config()[12], device.config()[21]), (254, 2));
    }
}
