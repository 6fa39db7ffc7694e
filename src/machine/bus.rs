//! Address → device, for one address space (memory-mapped or port I/O).
//!
//! Enters: accesses of the guest. Leaves: calls of the device at that address. An access that meets no device reads
//! all ones and writes nothing, as on an empty bus.

use std::sync::Arc;

use thiserror::Error;

/// What can be put on a bus. Called by all vCPU threads at once.
pub trait BusDevice: Send + Sync {
    /// The guest reads `data.len()` bytes (1, 2, 4 or 8) at `offset` from the device's start.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest writes.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Why a device was not taken.
#[derive(Debug, Error)]
#[error("The device at {start:#x} overlaps another one, or the end of the address space")]
pub struct Overlap {
    /// First address of the device that was refused.
    pub start: u64,
}

/// Devices of one address space. Filled while the machine is built, read-only afterwards (and so without a lock).
#[derive(Default)]
pub struct Bus {
    /// Sorted by start; no two overlap. `end` is the last address.
    entries: Vec<Entry>,
}

struct Entry {
    start: u64,
    end: u64,
    device: Arc<dyn BusDevice>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| entry.start..=entry.end)).finish()
    }
}

impl Bus {
    /// Puts a device at `start`, `length` addresses long.
    pub fn insert(&mut self, start: u64, length: u64, device: Arc<dyn BusDevice>) -> Result<(), Overlap> {
        let end = length.checked_sub(1).and_then(|more| start.checked_add(more)).ok_or(Overlap { start })?;
        let at = self.entries.partition_point(|entry| entry.end < start);
        if self.entries.get(at).is_some_and(|next| next.start <= end) {
            return Err(Overlap { start });
        }
        self.entries.insert(at, Entry { start, end, device });
        Ok(())
    }

    /// The guest reads.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// The guest writes.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    /// The device that holds the whole access, and the offset in it.
    fn find(&self, address: u64, length: usize) -> Option<(&dyn BusDevice, u64)> {
        let entry = self.entries.get(self.entries.partition_point(|entry| entry.end < address))?;
        let offset = address.checked_sub(entry.start)?;
        let last = address.checked_add(u64::try_from(length).ok()?.checked_sub(1)?)?;
        (last <= entry.end).then_some((entry.device.as_ref(), offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Probe(Mutex<Vec<(u64, usize)>>);

    impl BusDevice for Probe {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.len()));
        }
    }

    #[test]
    fn an_access_reaches_its_device_with_the_offset() {
        let (mut bus, probe) = (Bus::default(), Arc::new(Probe::default()));
        bus.insert(0x100, 0x10, probe.clone()).unwrap();
        let mut data = [0; 4];
        bus.read(0x10c, &mut data);
        assert_eq!(data, [0xc; 4]);
        bus.write(0x100, &[0; 2]);
        assert_eq!(*probe.0.lock().unwrap(), [(0, 2)]);
    }

    #[test]
    fn an_access_outside_or_across_the_end_reads_ones() {
        let (mut bus, probe) = (Bus::default(), Arc::new(Probe::default()));
        bus.insert(0x100, 0x10, probe.clone()).unwrap();
        for (address, length) in [(0xff, 1), (0xfe, 4), (0x10d, 4), (0x110, 1), (u64::MAX, 8)] {
            let mut data = vec![0; length];
            bus.read(address, &mut data);
            assert_eq!(data, vec![0xff; length], "{address:#x}");
            bus.write(address, &data);
        }
        assert!(probe.0.lock().unwrap().is_empty());
    }

    #[test]
    fn overlap_is_refused() {
        let mut bus = Bus::default();
        bus.insert(0x100, 0x10, Arc::new(Probe::default())).unwrap();
        bus.insert(0x120, 0x10, Arc::new(Probe::default())).unwrap();
        for (start, length) in
            [(0x100, 1), (0x10f, 1), (0xf0, 0x11), (0x118, 9), (0, 0x1000), (0x40, 0), (u64::MAX, 2)]
        {
            assert!(bus.insert(start, length, Arc::new(Probe::default())).is_err(), "{start:#x}+{length:#x}");
        }
        bus.insert(0x110, 0x10, Arc::new(Probe::default())).unwrap();
    }
}
