//! Slots: registers that are there from the machine's start, for a device that comes and goes while it runs.
//!
//! An empty slot has device id 0, which a driver must pass over (VIRTIO 1.2, section 4.2.3.1.1): a slot that is never
//! used costs the guest three reads at its boot, which are no exits. What the guest does when a device has come is asked of
//! it by other means (the agent binds the driver to the slot): this transport has no event for it.

use thiserror::Error;

use super::super::VirtioDevice;
use super::{Transport, borrow};

/// Why a slot was not changed.
#[derive(Debug, Error)]
pub enum SlotError {
    /// No slot of that number.
    #[error("The machine has no slot {slot} for a device")]
    Unknown {
        /// As asked for.
        slot: usize,
    },
    /// It has a device.
    #[error("The slot has a device already")]
    Occupied,
    /// Every slot for a disk has one.
    #[error(
        "The machine has no room for another disk: it has {slots} slots for those of a pod's containers, of which each \
         takes two or more"
    )]
    Full {
        /// How many it has.
        slots: usize,
    },
    /// None for the limit that the machine's devices have, or for what the host's kernel has to tell of one.
    #[error("Cannot create a timer or an event; check `ulimit -n`")]
    Descriptor(#[source] std::io::Error),
    /// The machine's devices are gone.
    #[error("The virtual machine has ended")]
    Ended,
}

impl Transport {
    /// Puts a device into an empty slot. The driver finds it the next time that it looks.
    pub fn plug(&self, device: Box<dyn VirtioDevice>) -> Result<(), SlotError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SlotError::Ended);
        }
        if state.device.is_some() {
            return Err(SlotError::Occupied);
        }
        self.reset(&mut state);
        self.put(&mut state, device);
        Ok(())
    }

    /// Whether a device could be put there.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.device.is_none() && !state.closed
    }

    /// Takes the device away, whatever the driver does with it; no error if there is none.
    pub fn unplug(&self) {
        let mut state = self.lock();
        for kick in &self.kicks {
            // Watched only while the driver is ready.
            let _ = self.watcher.unwatch(borrow(kick));
        }
        if let Some(mut device) = state.device.take() {
            device.reset();
        }
        state.able = None;
        if !state.closed {
            self.reset(&mut state);
        }
        self.show_all(&state);
    }
}

#[cfg(test)]
#[path = "mmio_slot_tests.rs"]
mod tests;
