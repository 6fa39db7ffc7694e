//! A device's registers as the driver reads them (VIRTIO 1.2, section 4.2.2), in memory.
//!
//! The guest has that memory at the registers' address and can only read it: a read is no exit, a write is one as ever.
//! Linux reads the interrupt's status at each interrupt, and twenty registers of each device at its boot; an exit to this
//! process takes 5,300 instructions.
//!
//! Enters: values, from the transport and the interrupt. Leaves: the same, to the guest at any moment, and to the transport
//! for reads that do come as exits. Must never know what they mean. Nothing of it is ever read back to decide by, but the
//! interrupt's status, which the guest can't write either.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::VIRTIO_MMIO_CONFIG;
use vm_memory::{MmapRegion, VolatileMemory, VolatileSlice};

use crate::machine::layout;

/// Where the device's own part begins.
const CONFIG: usize = VIRTIO_MMIO_CONFIG as usize;
/// Bytes of a window.
const BYTES: usize = layout::VIRTIO_WINDOW as usize;

/// The registers of one device; clones are the same.
#[derive(Debug, Clone)]
pub struct Window {
    memory: Arc<MmapRegion>,
    start: usize,
}

impl Window {
    /// The window of that number in `memory`, if there is room for it.
    pub fn new(memory: &Arc<MmapRegion>, number: usize) -> Option<Self> {
        let start = number.checked_mul(BYTES)?;
        let end = start.checked_add(BYTES)?;
        (end <= memory.size()).then(|| Self { memory: Arc::clone(memory), start })
    }

    /// One that no guest has: all reads are exits.
    ///
    /// # Errors
    /// No memory.
    pub fn apart() -> io::Result<Self> {
        Ok(Self { memory: Arc::new(MmapRegion::new(BYTES).map_err(io::Error::other)?), start: 0 })
    }

    /// The register at `offset`, which is one of section 4.2.2.
    pub fn register(&self, offset: u32) -> &AtomicU32 {
        let place = self.start + usize::try_from(offset).expect("a register's offset is small");
        self.memory.get_atomic_ref(place).expect("a register is aligned, and inside of its window")
    }

    /// The driver reads `value` there from now on.
    pub fn put(&self, offset: u32, value: u32) {
        self.register(offset).store(value.to_le(), Ordering::SeqCst);
    }

    /// The device-specific configuration from now on; what does not fit is not seen.
    pub fn put_config(&self, bytes: &[u8]) {
        let mut all = [0; BYTES - CONFIG];
        let length = bytes.len().min(all.len());
        all[..length].copy_from_slice(&bytes[..length]);
        self.slice(CONFIG, all.len()).copy_from(&all[..]);
    }

    /// A read that came as an exit. Behind the window there are zeroes.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some((offset, behind)) =
            usize::try_from(offset).ok().and_then(|offset| Some((offset, BYTES.checked_sub(offset)?)))
        else {
            return;
        };
        let length = data.len().min(behind);
        self.slice(offset, length).copy_to(&mut data[..length]);
    }

    fn slice(&self, offset: usize, length: usize) -> VolatileSlice<'_> {
        self.memory.get_slice(self.start + offset, length).expect("inside of the window")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_one_memory_are_apart() {
        let memory = Arc::new(MmapRegion::new(4096).unwrap());
        let [first, second] = [0, 1].map(|number| Window::new(&memory, number).unwrap());
        first.put_config(&[1, 2, 3]);
        second.put(0, 7);
        second.put_config(&[0xff; 4096]);
        let read = |window: &Window, offset| {
            let mut data = [9; 4];
            window.read(offset, &mut data);
            data
        };
        assert_eq!((read(&first, 0x100), read(&second, 0)), ([1, 2, 3, 0], [7, 0, 0, 0]));
        first.put_config(&[4]);
        assert_eq!((read(&first, 0x100), read(&second, 0x100)), ([4, 0, 0, 0], [0xff; 4]));
        // Across the end, and behind it.
        assert_eq!((read(&second, 0x1fe), read(&second, 0x200)), ([0xff, 0xff, 0, 0], [0; 4]));
        assert_eq!(read(&second, u64::MAX), [0; 4]);
        let more = 4096 / BYTES;
        assert!(Window::new(&memory, more - 1).is_some() && Window::new(&memory, more).is_none());
        assert!(Window::new(&memory, usize::MAX).is_none());
    }
}
