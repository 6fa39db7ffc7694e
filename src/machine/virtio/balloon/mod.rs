//! The memory balloon (VIRTIO 1.2, section 5.5): guest memory that is free goes back to the host.
//!
//! Enters: free pages, which the guest's kernel reports by itself (`VIRTIO_BALLOON_F_PAGE_REPORTING`), and pages that it
//! gives up because it was asked to ([`BalloonHandle`]). Leaves: their memory, by [`give_back`].
//! Must never know why somebody wants memory.
//!
//! Linux reports what has been free for two seconds, in blocks of 2 MiB and more, so that huge pages of the host stay
//! whole. A page that is used again is lent again when it is touched; nothing is to be done for the deflate queue. A guest
//! that runs out of memory takes from the balloon by itself (`VIRTIO_BALLOON_F_DEFLATE_ON_OOM`).
//!
//! At boot its driver makes 80 accesses to the registers, 0.4 ms when instructions are counted; reporting begins two
//! seconds later.
//!
//! No statistics queue: the agent reads more of the guest's kernel than it has numbers for.

mod handle;
mod pages;

use std::io;
use std::sync::Arc;

use thiserror::Error;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

pub use self::handle::BalloonHandle;
use self::handle::Sizes;
use super::worker::Served;
use super::{ActivateError, Active, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice};
use crate::machine::events::Watcher;
use crate::machine::memory::{self, Pages, give_back};

/// Feature bits (section 5.5.3).
const VIRTIO_BALLOON_F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// See [`VIRTIO_BALLOON_F_DEFLATE_ON_OOM`].
const VIRTIO_BALLOON_F_PAGE_REPORTING: u64 = 1 << 5;
/// Queue indices (section 5.5.2).
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
/// `reporting_vq` is number 4 in the text, behind two that exist only with features that we do not offer. Linux counts
/// only those that exist, and so does everyone who works with it.
const REPORTING: u16 = 2;
/// Linux has one chain at a time in each.
const QUEUE_SIZES: &[u16] = &[8, 8, pages::MAX_RANGES];
/// Event id of a wanted size.
const WANTED: u32 = 0;
/// Where `actual` is in the configuration space (section 5.5.4), behind `num_pages`; 32 bits, little-endian.
const ACTUAL: usize = 4;

/// Why the device could not be made.
#[derive(Debug, Error)]
pub enum BalloonError {
    /// No descriptor to be had.
    #[error("Cannot create the balloon's event descriptor; check `ulimit -n`")]
    EventFd(#[source] io::Error),
}

/// The memory balloon.
#[derive(Debug)]
pub struct Balloon {
    /// `num_pages` and `actual` (section 5.5.4).
    config: [u8; 8],
    sizes: Arc<Sizes>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    memory: GuestMemoryMmap,
    queues: [DeviceQueue; 3],
    interrupt: Interrupt,
    watcher: Watcher,
}

impl Balloon {
    /// The balloon of a guest with so much memory, of which it keeps as much as the smallest guest has.
    pub fn new(memory_mib: u64) -> Result<(Self, BalloonHandle), BalloonError> {
        let most = memory_mib.saturating_sub(memory::MIN_MIB).saturating_mul((1 << 20) / Pages::SIZE);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let (handle, sizes) = BalloonHandle::new(most).map_err(BalloonError::EventFd)?;
        Ok((Self { config: [0; 8], sizes, running: None }, handle))
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> DeviceType {
        DeviceType::Balloon
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        VIRTIO_BALLOON_F_DEFLATE_ON_OOM | VIRTIO_BALLOON_F_PAGE_REPORTING
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(ACTUAL), Ok(actual)) = (usize::try_from(offset), <[u8; 4]>::try_from(data)) {
            self.config[ACTUAL..].copy_from_slice(&actual);
            self.sizes.set_actual(u32::from_le_bytes(actual));
        }
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let device = DeviceType::Balloon;
        let Active { memory, queues, interrupt, watcher, .. } = active;
        let queues = <[DeviceQueue; 3]>::try_from(queues).map_err(|queues| ActivateError::Queues {
            device,
            expected: QUEUE_SIZES.len(),
            got: queues.len(),
        })?;
        watcher
            .watch(self.sizes.fd(), WANTED, EventSet::IN)
            .map_err(|source| ActivateError::Watch { device, source })?;
        self.config[..ACTUAL].copy_from_slice(&self.sizes.wanted().to_le_bytes());
        self.running = Some(Running { memory, queues, interrupt, watcher });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let Some(Running { memory, queues: [inflate, deflate, reporting], interrupt, .. }) =
            &mut self.running
        else {
            return match event {
                // It was on its way when the device was reset.
                Token::Source { .. } => Ok(()),
                Token::Queue(_) => Err(DeviceError::Unexpected { token: event }),
            };
        };
        let gone = |ranges: Vec<Pages>| {
            ranges.into_iter().for_each(|pages| give_back(memory, pages));
            // Nothing is written into the driver's buffers.
            Served::Now(0)
        };
        match event {
            Token::Queue(INFLATE) => {
                inflate.drain(memory, interrupt, |chain| pages::numbered(memory, chain).map(gone))
            }
            Token::Queue(DEFLATE) => deflate
                .drain(memory, interrupt, |chain| pages::numbered(memory, chain).map(|_| Served::Now(0))),
            Token::Queue(REPORTING) => {
                reporting.drain(memory, interrupt, |chain| pages::reported(memory, chain).map(gone))
            }
            Token::Source { id: WANTED, .. } => {
                let wanted = self.sizes.wanted().to_le_bytes();
                if self.config[..ACTUAL] != wanted {
                    self.config[..ACTUAL].copy_from_slice(&wanted);
                    let told = interrupt.config_changed(&self.config);
                    told.map_err(|source| DeviceError::Host { what: "interrupt the guest", source })?;
                }
                Ok(())
            }
            _ => Err(DeviceError::Unexpected { token: event }),
        }
    }

    fn reset(&mut self) -> bool {
        if let Some(running) = self.running.take() {
            // Not watched when the loop is going down.
            let _ = running.watcher.unwatch(self.sizes.fd());
        }
        self.sizes.set_actual(0);
        self.config[ACTUAL..].fill(0);
        true
    }
}

const _: () = assert!(DeviceType::Balloon as u32 == VIRTIO_ID_BALLOON);

#[cfg(test)]
mod tests;
