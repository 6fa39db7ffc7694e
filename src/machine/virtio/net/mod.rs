//! The network device (VIRTIO 1.2, section 5.1): one queue each way, and a tap of the host behind it.
//!
//! Enters: frames from the guest's queue, frames from the tap. Leaves: the same frames on the other side, by one system
//! call each, from and into the guest's own buffers. Must never know what is in a frame, nor where the tap leads.
//!
//! ```text
//!  guest ── transmit queue ──▶ transmit.rs ──▶ tap      (checksums and segments are left to who needs them last)
//!  guest ◀── receive queue ─── receive.rs  ◀── tap      (only while the guest has buffers for a whole frame)
//! ```
//!
//! The frame's header (section 5.1.6) is the tap's own (`IFF_VNET_HDR`): it goes through as it is, and the host's kernel
//! checks it like that of any program. Where the host has vhost-net its kernel can have both queues (`vhost.rs`).

#[cfg(test)]
mod random_tests;
mod receive;
mod tap;
#[cfg(test)]
mod tests;
mod transmit;
mod vhost;
#[cfg(test)]
mod vhost_tests;

use std::io;
use std::os::fd::OwnedFd;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use self::receive::{Filled, Receive};
use self::tap::Tap;
use self::transmit::Transmit;
pub use self::vhost::open as open_vhost;
use self::vhost::{Opened, Vhost};
use super::limiter::Limiter;
use super::{ActivateError, Active, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice};
use crate::config::Throttle;
use crate::machine::events::Watcher;

/// Queue indices (section 5.1.2).
const RX: u16 = 0;
const TX: u16 = 1;
/// 256, as Firecracker and QEMU have.
pub const QUEUE_SIZES: &[u16] = &[256, 256];
/// The id of the tap's descriptor in the event loop.
const TAP: u32 = 0;
/// And of the limiters.
const RECEIVE_LIMIT: u32 = 1;
const TRANSMIT_LIMIT: u32 = 2;
/// And of what the host's kernel tells of the queue of index 0, behind which those of the others are.
const BROKEN: u32 = 3;
/// Bytes of `struct virtio_net_hdr` with `num_buffers` (section 5.1.6): what the tap is set to.
pub const HEADER: usize = 12;
/// The longest frame, with its header: a segment of 64 KiB, Ethernet's addresses and type, and two VLAN tags.
const MAX_FRAME: usize = HEADER + 65_536 + 14 + 8;
/// Bytes of `struct virtio_net_config` (section 5.1.4) up to `mtu`.
const CONFIG_BYTES: usize = 12;

/// What the guest can leave to us and we to it, whatever the tap is.
const FEATURES: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_ECN
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_HOST_ECN
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_MTU
    | 1 << VIRTIO_NET_F_STATUS;
/// UDP segments: a tap has them since Linux 6.2.
const UDP_SEGMENTS: u64 =
    1 << VIRTIO_NET_F_GUEST_USO4 | 1 << VIRTIO_NET_F_GUEST_USO6 | 1 << VIRTIO_NET_F_HOST_USO;

/// An interface for the guest.
#[derive(Debug)]
pub struct Nic {
    /// A tap with `IFF_VNET_HDR | IFF_NO_PI`, one queue, a header of [`HEADER`] bytes, non-blocking, and up.
    pub tap: OwnedFd,
    /// The address that the guest's interface has.
    pub mac: [u8; 6],
    /// The largest packet, in bytes, without Ethernet's header.
    pub mtu: u16,
    /// `/dev/vhost-net`, opened for this interface: the host's kernel serves the queues. See [`open_vhost`].
    pub vhost: Option<OwnedFd>,
}

/// The network device.
#[derive(Debug)]
pub struct Net {
    tap: Tap,
    features: u64,
    config: [u8; CONFIG_BYTES],
    /// The host's kernel serves the queues, by this.
    by_kernel: Option<Opened>,
    /// Of what is received, and of what is sent.
    limiters: Option<[Limiter; 2]>,
    running: Option<Running>,
    served: Option<Served>,
}

/// What exists between activation and reset, unless the host's kernel has it.
#[derive(Debug)]
struct Running {
    memory: GuestMemoryMmap,
    receive: Receive,
    transmit: Transmit,
    interrupt: Interrupt,
    watcher: Watcher,
}

/// The same, if the host's kernel has it.
#[derive(Debug)]
struct Served {
    _vhost: Vhost,
    watcher: Watcher,
}

impl Net {
    /// A device for that interface.
    ///
    /// # Errors
    /// There is no descriptor left for what the host's kernel has to tell.
    pub fn new(nic: Nic) -> io::Result<Self> {
        let Nic { tap, mac, mtu, vhost } = nic;
        let tap = Tap::new(tap);
        let features = FEATURES | if tap.has_udp_segments() { UDP_SEGMENTS } else { 0 };
        let mut config = [0; CONFIG_BYTES];
        config[..6].copy_from_slice(&mac);
        config[6] = LINK_UP;
        config[8] = 1; // max_virtqueue_pairs
        config[10..].copy_from_slice(&mtu.to_le_bytes());
        let by_kernel = vhost.map(Opened::new).transpose()?;
        Ok(Self { tap, features, config, by_kernel, limiters: None, running: None, served: None })
    }

    /// The same, held to a limit in each direction: by us, since the host's kernel has none.
    ///
    /// # Errors
    /// As [`Limiter::new`].
    pub fn limited(self, throttle: Throttle) -> io::Result<Self> {
        let limiters = Limiter::new(throttle)?.zip(Limiter::new(throttle)?).map(Into::into);
        Ok(Self { by_kernel: self.by_kernel.filter(|_| limiters.is_none()), limiters, ..self })
    }

    /// The host's kernel tells of a queue, or what was told is over: the device was reset in between.
    fn told(&self, id: u32) -> Result<(), DeviceError> {
        let queue = id.checked_sub(BROKEN).and_then(|queue| u16::try_from(queue).ok());
        match (queue, &self.by_kernel) {
            (Some(queue), Some(kernel)) if kernel.is_broken(queue) => Err(DeviceError::Ring { queue }),
            _ => Ok(()),
        }
    }

    /// The tap is gone: the guest sees a cable that was pulled.
    fn unplugged(&mut self) -> Result<(), DeviceError> {
        self.config[6] = 0;
        let Some(running) = &self.running else { return Ok(()) };
        // It may be unwatched already.
        let _ = running.watcher.unwatch(self.tap.fd());
        running
            .interrupt
            .config_changed(&self.config)
            .map_err(|source| DeviceError::Host { what: "interrupt the guest", source })
    }
}

/// In the low byte of `status`.
const LINK_UP: u8 = VIRTIO_NET_S_LINK_UP.to_le_bytes()[0];

impl VirtioDevice for Net {
    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn polls_kicks(&self) -> bool {
        self.by_kernel.is_none()
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let device = DeviceType::Net;
        let Active { memory, queues, interrupt, features, watcher } = active;
        let failed = |source| ActivateError::Watch { device, source };
        self.tap.offload(features).map_err(failed)?;
        if let Some(kernel) = &self.by_kernel {
            let failed = |source| ActivateError::Vhost { device, source };
            let tap = self.tap.fd();
            let vhost = Vhost::start(kernel, &memory, &queues, features, &interrupt, tap).map_err(failed)?;
            let Served { watcher, .. } = self.served.insert(Served { _vhost: vhost, watcher });
            for (event, id) in kernel.events().zip(BROKEN..) {
                watcher.watch(event, id, EventSet::IN).map_err(failed)?;
            }
            return Ok(());
        }
        let [rx, tx] = <[DeviceQueue; 2]>::try_from(queues).map_err(|queues| ActivateError::Queues {
            device,
            expected: QUEUE_SIZES.len(),
            got: queues.len(),
        })?;
        watcher
            .watch(self.tap.fd(), TAP, EventSet::IN | EventSet::ERROR | EventSet::EDGE_TRIGGERED)
            .map_err(failed)?;
        for (limiter, id) in self.limiters.iter().flatten().zip([RECEIVE_LIMIT, TRANSMIT_LIMIT]) {
            limiter.watch(&watcher, id).map_err(failed)?;
        }
        let mergeable = features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0;
        let (receive, transmit) = (Receive::new(rx, mergeable), Transmit::new(tx));
        self.running = Some(Running { memory, receive, transmit, interrupt, watcher });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let Some(running) = &mut self.running else {
            return match event {
                Token::Source { id, .. } => self.told(id),
                Token::Queue(_) => Err(DeviceError::Unexpected { token: event }),
            };
        };
        let Running { memory, receive, transmit, interrupt, .. } = running;
        let [receiving, sending] = match &mut self.limiters {
            Some([receiving, sending]) => [Some(receiving), Some(sending)],
            None => [None, None],
        };
        match event {
            Token::Queue(TX) | Token::Source { id: TRANSMIT_LIMIT, .. } => {
                transmit.take(memory, interrupt, &self.tap, sending)
            }
            // A kick says that there are buffers again, an event of the tap that there are frames.
            Token::Queue(RX) | Token::Source { id: TAP | RECEIVE_LIMIT, .. } => {
                match receive.fill(memory, interrupt, &self.tap, receiving)? {
                    Filled::AsFarAsPossible => Ok(()),
                    Filled::TapGone => self.unplugged(),
                }
            }
            Token::Queue(_) | Token::Source { .. } => Err(DeviceError::Unexpected { token: event }),
        }
    }

    fn reset(&mut self) -> bool {
        if let (Some(served), Some(kernel)) = (self.served.take(), &self.by_kernel) {
            for event in kernel.events() {
                // Not watched when the activation failed.
                let _ = served.watcher.unwatch(event);
            }
        }
        if let Some(running) = self.running.take() {
            // It may be unwatched already.
            let _ = running.watcher.unwatch(self.tap.fd());
            self.limiters.iter().flatten().for_each(|limiter| limiter.unwatch(&running.watcher));
        }
        true
    }
}
