//! The entropy device (VIRTIO 1.2, section 5.4): fills the guest's buffers from the host's generator.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{Bytes, GuestMemoryMmap};

use super::worker::Served;
use super::{
    ActivateError, Active, Chain, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice,
};

/// The one queue (section 5.4.2).
const QUEUE: u16 = 0;
/// Linux asks for 64 bytes at a time.
const QUEUE_SIZES: &[u16] = &[32];
/// At most so many bytes per request: the driver must take what it gets (section 5.4.6), and a guest cannot keep the
/// device thread busy with gigabytes.
const MAX_BYTES: usize = 4096;

/// The entropy device.
#[derive(Debug, Default)]
pub struct Rng {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    memory: GuestMemoryMmap,
    queue: DeviceQueue,
    interrupt: Interrupt,
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> DeviceType {
        DeviceType::Entropy
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let Active { memory, queues, interrupt, .. } = active;
        let [queue] = <[DeviceQueue; 1]>::try_from(queues).map_err(|queues| ActivateError::Queues {
            device: DeviceType::Entropy,
            expected: QUEUE_SIZES.len(),
            got: queues.len(),
        })?;
        self.running = Some(Running { memory, queue, interrupt });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        match (&mut self.running, event) {
            (Some(Running { memory, queue, interrupt }), Token::Queue(QUEUE)) => {
                queue.drain(memory, interrupt, |chain| fill(memory, chain).map(Served::Now))
            }
            _ => Err(DeviceError::Unexpected { token: event }),
        }
    }

    fn reset(&mut self) -> bool {
        self.running = None;
        true
    }
}

/// Fills the writable buffers of a chain, up to the bound; returns how much.
fn fill(memory: &GuestMemoryMmap, chain: Chain<'_>) -> Result<u32, DeviceError> {
    let mut bytes = [0; MAX_BYTES];
    let mut filled = 0;
    for buffer in chain {
        let buffer = buffer?;
        if !buffer.is_write_only() {
            continue;
        }
        let wanted = usize::try_from(buffer.len()).unwrap_or(MAX_BYTES).min(MAX_BYTES - filled);
        let part = &mut bytes[..wanted];
        random(part).map_err(|source| DeviceError::Host { what: "get random bytes", source })?;
        memory
            .write_slice(part, buffer.addr())
            .map_err(|_| DeviceError::Chain { reason: "a buffer outside of memory" })?;
        filled += wanted;
        if filled == MAX_BYTES {
            break;
        }
    }
    Ok(u32::try_from(filled).expect("at most MAX_BYTES"))
}

/// getrandom(2) for all of the buffer.
///
/// # Errors
/// The kernel's.
pub(in crate::machine) fn random(mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match getrandom(&mut *buffer, GetRandomFlags::empty()) {
            Ok(count) => buffer = &mut buffer[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::GuestAddress;

    use super::super::test_support::{chain, device_queue};
    use super::*;

    fn buffer(address: u64, length: u32, flags: u32) -> RawDescriptor {
        RawDescriptor::from(Descriptor::new(address, length, u16::try_from(flags).unwrap(), 0))
    }

    fn answer(descriptors: &[RawDescriptor]) -> (GuestMemoryMmap, Result<u32, DeviceError>) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let result = {
            let mock = MockSplitQueue::new(&memory, 16);
            fill(&memory, chain(&memory, &mock, descriptors))
        };
        (memory, result)
    }

    #[test]
    fn writable_buffers_are_filled() {
        let (memory, result) = answer(&[
            buffer(0x1_0000, 16, VRING_DESC_F_NEXT),
            buffer(0x2_0000, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT),
            buffer(0x3_0000, 64, VRING_DESC_F_WRITE),
        ]);
        assert_eq!(result.unwrap(), 128);
        let read = |address| memory.read_obj::<[u8; 32]>(GuestAddress(address)).unwrap();
        assert_eq!(read(0x1_0000), [0; 32]);
        assert_ne!(read(0x2_0000), [0; 32]);
        assert_ne!(read(0x3_0000), read(0x2_0000));
    }

    #[test]
    fn a_huge_request_is_cut() {
        let (_, result) = answer(&[buffer(0x1_0000, 0x8_0000, VRING_DESC_F_WRITE)]);
        assert_eq!(result.unwrap(), 4096);
    }

    #[test]
    fn a_buffer_outside_of_memory_breaks_the_device() {
        let (_, result) = answer(&[buffer(0x1000_0000, 64, VRING_DESC_F_WRITE)]);
        assert!(matches!(result, Err(DeviceError::Chain { .. })));
    }

    #[test]
    fn a_kick_is_answered_by_an_interrupt() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.build_desc_chain(&[buffer(0x1_0000, 64, VRING_DESC_F_WRITE)]).unwrap();
        let (active, interrupt) = device_queue(&memory, &mock);
        let mut device = Rng::default();
        assert!(device.handle(Token::Queue(0)).is_err());
        device.activate(active).unwrap();
        device.handle(Token::Queue(0)).unwrap();
        assert_eq!((interrupt.status(), mock.used().idx().load()), (1, 1));
        assert!(device.reset());
    }
}
