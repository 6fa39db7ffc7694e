//! All that the outside may do with a running machine. No sockets of the outside here.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::disks::OpenDisk;
use super::memory::Pages;
use super::serial::Console;
use super::vcpu::gate::Gate;
use super::vcpu::{Stuck, VcpuError};
use super::virtio::balloon::BalloonHandle;
use super::virtio::block::{Block, Rings};
pub use super::virtio::mmio::SlotError;
use super::virtio::mmio::Transport;
use super::virtio::net::{Net, Nic};
pub use super::virtio::vsock::{ConnectError, VsockHandle};
use crate::config::Throttles;

/// How a machine ended. The last lines of its console are in [`MachineHandle::console_tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// [`MachineHandle::stop`].
    Stopped,
    /// The guest asked for it (a reboot is a power-off here).
    ShutDown,
    /// A processor could not even report its fault.
    TripleFault,
    /// The guest's kernel panicked.
    GuestPanic,
}

/// The end of the machine, set once by whoever is first: a processor, the outside, or the device thread.
#[derive(Debug)]
pub(super) struct End {
    set: AtomicBool,
    how: Mutex<Option<Result<Ended, VcpuError>>>,
    /// See [`MachineHandle::entered_ns`].
    entered_ns: AtomicU64,
    /// Wakes the device thread.
    pub(super) event: EventFd,
}

impl End {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            set: AtomicBool::new(false),
            how: Mutex::new(None),
            entered_ns: AtomicU64::new(0),
            event: EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK | vmm_sys_util::eventfd::EFD_CLOEXEC)?,
        })
    }

    /// Ends the machine; the first one says how.
    pub(super) fn set(&self, how: Result<Ended, VcpuError>) {
        let mut place = self.how.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that whoever sees the flag finds the reason.
        if !self.set.swap(true, Ordering::SeqCst) {
            *place = Some(how);
        }
        drop(place);
        // It cannot overflow: one write per processor and caller, and only a full counter refuses.
        let _ = self.event.write(1);
    }

    /// The first processor is about to execute the guest's first instruction.
    pub(super) fn entering(&self) {
        self.entered_ns.store(monotonic_ns(), Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// How it ended; once.
    pub(super) fn take(&self) -> Option<Result<Ended, VcpuError>> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A machine, from any thread. Clones are the same machine; it may have ended.
#[derive(Debug, Clone)]
pub struct MachineHandle {
    pub(super) end: Arc<End>,
    pub(super) gate: Arc<Gate>,
    pub(super) console: Arc<Console>,
    pub(super) vsock: VsockHandle,
    pub(super) balloon: BalloonHandle,
    pub(super) slots: Arc<[Slot]>,
    pub(super) disks: Arc<[Slot]>,
    pub(super) rings: Arc<Rings>,
    /// What devices that come later are held to.
    pub(super) throttles: Throttles,
}

/// A place for a device that comes and goes.
#[derive(Debug)]
pub(super) struct Slot {
    /// What the guest's kernel calls it.
    pub(super) device: String,
    pub(super) transport: Arc<Transport>,
}

/// Pages of a MiB.
const PAGES_PER_MIB: u64 = (1 << 20) / Pages::SIZE;

impl MachineHandle {
    /// Ends the machine at once, as if it lost power; `run` returns [`Ended::Stopped`].
    pub fn stop(&self) {
        self.end.set(Ok(Ended::Stopped));
    }

    /// Stops every processor; when it returns, none executes the guest's instructions. The devices go on with what they
    /// were asked for.
    ///
    /// # Errors
    /// [`Stuck`]; the guest goes on then.
    pub fn pause(&self) -> Result<(), Stuck> {
        self.gate.close()
    }

    /// Lets the processors go on.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.gate.is_closed()
    }

    /// Joins `stream` with a vsock stream to that port of the guest. It waits until the guest's driver is up; when
    /// nothing listens on the port then, the stream is closed.
    pub fn connect(&self, guest_port: u32, stream: UnixStream) -> Result<(), ConnectError> {
        self.vsock.connect(guest_port, stream)
    }

    /// Asks the guest to give up so many MiB of its memory in all, in place of what it was asked for before. Whatever is
    /// asked, it keeps the least that a guest has, and it takes back what it can't do without. Its driver works on it
    /// from then on: see [`Self::balloon_mib`].
    pub fn set_balloon_mib(&self, mib: u64) {
        self.balloon.want(mib.saturating_mul(PAGES_PER_MIB));
    }

    /// How much of its memory the guest says that it has given up, in whole MiB.
    pub fn balloon_mib(&self) -> u64 {
        u64::from(self.balloon.actual()) / PAGES_PER_MIB
    }

    /// How many network interfaces the guest can have at the same time.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Puts an interface into an empty slot, counted from 0. Returns the name of the platform device to which the guest
    /// has to bind its driver (`virtio-mmio`): until then it sees nothing.
    pub fn plug(&self, slot: usize, nic: Nic) -> Result<&str, SlotError> {
        let place = self.slots.get(slot).ok_or(SlotError::Unknown { slot })?;
        let net = Net::new(nic).and_then(|net| net.limited(self.throttles.networks));
        let net = net.map_err(SlotError::Descriptor)?;
        place.transport.plug(Box::new(net))?;
        Ok(&place.device)
    }

    /// Takes a slot's interface away, whether the guest has unbound its driver (as it should) or not.
    pub fn unplug(&self, slot: usize) {
        if let Some(place) = self.slots.get(slot) {
            place.transport.unplug();
        }
    }

    /// Puts a disk into an empty slot. Returns the name of the platform device to which the guest has to bind its driver
    /// (`virtio-mmio`): until then it sees nothing. One caller at a time.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn attach(&self, disk: OpenDisk) -> Result<&str, SlotError> {
        let full = SlotError::Full { slots: self.disks.len() };
        let place = self.disks.iter().find(|place| place.transport.is_empty()).ok_or(full)?;
        let OpenDisk { disk, read_only } = disk;
        let block = Block::on_lent(disk, read_only, &place.device, &self.rings);
        let block = block.limited(self.throttles.disks).map_err(SlotError::Descriptor)?;
        place.transport.plug(Box::new(block))?;
        Ok(&place.device)
    }

    /// Takes a disk away by its platform device, whether the guest has unbound its driver (as it should) or not: what it has
    /// begun is done when this returns, and nothing more comes.
    pub fn detach(&self, device: &str) {
        if let Some(place) = self.disks.iter().find(|place| place.device == device) {
            place.transport.unplug();
        }
    }

    /// When the guest's first instruction was about to be executed: `CLOCK_MONOTONIC` in nanoseconds, 0 before.
    pub fn entered_ns(&self) -> u64 {
        self.end.entered_ns.load(Ordering::Relaxed)
    }

    /// Puts a line of our own into the console's log. Not for what a guest can cause at will.
    pub fn note(&self, text: &str) {
        self.console.note(text);
    }

    /// The last few KiB of the guest's console.
    pub fn console_tail(&self) -> String {
        self.console.tail()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds; 0 on a kernel without it, which Linux never is.
pub fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .ok()
        .and_then(|now| u64::try_from(std::time::Duration::from(now).as_nanos()).ok())
        .unwrap_or(0)
}
