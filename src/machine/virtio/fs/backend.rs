//! The vhost-user connection: what the back end must be told before it can serve, in the protocol's order.
//!
//! The protocol is QEMU's "Vhost-user Protocol" (docs/interop/vhost-user); its messages are the `vhost` crate's.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use thiserror::Error;
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::QUEUES;
use crate::machine::virtio::DeviceQueue;

/// How long the back end may take for one answer. It may still be starting, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the back end does not serve.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The connection is gone.
    #[error("The file system's back end has ended")]
    Lost,
    /// It said no, nothing, or nonsense.
    #[error("The file system's back end does not do its part ({step})")]
    Step {
        /// The message concerned.
        step: &'static str,
        /// What the protocol's crate says.
        #[source]
        source: vhost::Error,
    },
    /// It can't do what the driver was promised.
    #[error("The file system's back end lacks features {missing:#x}")]
    Features {
        /// Those that it lacks.
        missing: u64,
    },
    /// Guest memory is private to this process, or a queue is outside of it.
    #[error("The file system's back end can't be given the guest's memory")]
    Memory,
}

/// The connection to a back end that serves nothing yet.
pub(super) struct Backend {
    stream: UnixStream,
    frontend: Frontend,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// For `map_err`: which message it was.
fn at(step: &'static str) -> impl FnOnce(vhost::Error) -> BackendError {
    move |source| BackendError::Step { step, source }
}

impl Backend {
    /// Nothing is said yet.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let queues = u64::try_from(QUEUES).expect("two queues");
        Ok(Self { frontend: Frontend::from_stream(stream.try_clone()?, queues), stream })
    }

    /// A descriptor by which to notice the end of the connection.
    pub(super) fn socket(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Hands guest memory and the queues over. The answer to the last message means that all were taken: the back end
    /// reads them in order and hangs up at the first that it can't do.
    pub(super) fn start(
        &mut self,
        features: u64,
        memory: &GuestMemoryMmap,
        queues: &[DeviceQueue],
        interrupt: &EventFd,
    ) -> Result<(), BackendError> {
        self.negotiate(features)?;
        let regions = memory
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BackendError::Memory)?;
        self.frontend.set_mem_table(&regions).map_err(at("SET_MEM_TABLE"))?;
        for (index, DeviceQueue { queue, kick, .. }) in queues.iter().enumerate() {
            // A driver need not use every queue.
            if queue.ready() {
                self.queue(index, queue, kick, memory, interrupt)?;
            }
        }
        Ok(())
    }

    fn negotiate(&mut self, features: u64) -> Result<(), BackendError> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.frontend.set_owner().map_err(at("SET_OWNER"))?;
        let offered = self.frontend.get_features().map_err(at("GET_FEATURES"))?;
        let missing = (features | protocol) & !offered;
        if missing != 0 {
            return Err(BackendError::Features { missing });
        }
        let can = self.frontend.get_protocol_features().map_err(at("GET_PROTOCOL_FEATURES"))?;
        let acknowledge = can & VhostUserProtocolFeatures::REPLY_ACK;
        self.frontend.set_protocol_features(acknowledge).map_err(at("SET_PROTOCOL_FEATURES"))?;
        self.frontend.set_features(features | protocol).map_err(at("SET_FEATURES"))
    }

    fn queue(
        &mut self,
        index: usize,
        queue: &Queue,
        kick: &EventFd,
        memory: &GuestMemoryMmap,
        interrupt: &EventFd,
    ) -> Result<(), BackendError> {
        // The protocol has them as addresses of this process, to be found by the table of regions.
        let here = |address: u64| {
            let pointer = memory.get_host_address(GuestAddress(address)).map_err(|_| BackendError::Memory)?;
            u64::try_from(pointer.addr()).map_err(|_| BackendError::Memory)
        };
        let addresses = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: here(queue.desc_table())?,
            used_ring_addr: here(queue.used_ring())?,
            avail_ring_addr: here(queue.avail_ring())?,
            log_addr: None,
        };
        let frontend = &mut self.frontend;
        frontend.set_vring_num(index, queue.size()).map_err(at("SET_VRING_NUM"))?;
        frontend.set_vring_addr(index, &addresses).map_err(at("SET_VRING_ADDR"))?;
        frontend.set_vring_base(index, queue.next_avail()).map_err(at("SET_VRING_BASE"))?;
        frontend.set_vring_call(index, interrupt).map_err(at("SET_VRING_CALL"))?;
        frontend.set_vring_kick(index, kick).map_err(at("SET_VRING_KICK"))?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let enabled = frontend.set_vring_enable(index, true).map_err(at("SET_VRING_ENABLE"));
        frontend.set_hdr_flags(VhostUserHeaderFlag::empty());
        enabled
    }
}
