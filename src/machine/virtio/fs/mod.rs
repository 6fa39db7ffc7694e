//! The file system device (VIRTIO 1.2, section 5.11), served by another process over vhost-user.
//!
//! ```text
//!  guest driver ── queues in guest memory ──▶ back end (virtiofsd): it polls the kicks, raises the interrupt
//!       │ registers                              ▲ vhost-user socket: memory, queues and descriptors, once
//!       └──────────────▶ transport ── activate ──┘
//! ```
//!
//! Enters: a connection to the back end. Leaves: nothing; not one byte of a request passes through this process. All
//! that the guest decides and this process hands on are the three addresses and the size of each queue, which the
//! transport has checked against guest memory. What a request asks for is the back end's to judge, whose walls are
//! its own: see `host::volumes`.
//!
//! A back end that is lost is noticed by its socket. From then on this device answers for it, first the requests that
//! it left behind, then all later ones, each with an error: no process in the guest waits for ever (`orphan.rs`).

mod backend;
mod orphan;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use thiserror::Error;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use self::backend::Backend;
pub use self::backend::BackendError;
use super::{ActivateError, Active, DeviceError, DeviceQueue, DeviceType, Interrupt, Token, VirtioDevice};
use crate::config::FsConfig;
use crate::machine::events::Watcher;

/// Two queues: one for requests that must not wait (forget), one for all others (section 5.11.2).
pub(crate) const QUEUES: usize = 2;
/// Room for a request of 1 MiB, which is the most that the driver makes of one, in pages of 4 KiB.
const QUEUE_SIZES: &[u16] = &[1024; QUEUES];
/// `tag` (section 5.11.4), in bytes.
const TAG: usize = 36;
/// The id of the back end's socket in events. Those of orphaned queues follow.
const SOCKET: u32 = 0;

/// Why there is no such device.
#[derive(Debug, Error)]
pub enum FsError {
    /// Nobody listens.
    #[error("The file system's back end can't be reached: has it ended?")]
    Connect(#[source] io::Error),
    /// The name is too long for the device.
    #[error("The file system's tag {tag:?} is not of 1 to {TAG} bytes")]
    Tag {
        /// As configured.
        tag: String,
    },
}

/// A file system that another process serves.
#[derive(Debug)]
pub struct Fs {
    config: [u8; TAG + 4],
    /// What is called its front end in the protocol is this device.
    backend: Option<Backend>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// A second descriptor of the connection, to notice its end.
    socket: UnixStream,
    memory: GuestMemoryMmap,
    queues: Vec<DeviceQueue>,
    interrupt: Interrupt,
    watcher: Watcher,
}

impl Fs {
    /// The file system that `config` names. Its back end listens; it need not have come further.
    ///
    /// # Errors
    /// [`FsError`]
    pub fn connect(config: &FsConfig) -> Result<Self, FsError> {
        Self::new(&config.tag, reach(&config.socket).map_err(FsError::Connect)?)
    }

    /// The file system called `tag` of the back end at the other end of `stream`, which need not be up yet.
    ///
    /// # Errors
    /// [`FsError`]
    pub fn new(tag: &str, stream: UnixStream) -> Result<Self, FsError> {
        if tag.is_empty() || tag.len() > TAG {
            return Err(FsError::Tag { tag: tag.to_owned() });
        }
        let mut config = [0; TAG + 4];
        config[..tag.len()].copy_from_slice(tag.as_bytes());
        // `num_request_queues`
        config[TAG..].copy_from_slice(&1_u32.to_le_bytes());
        let backend = Backend::new(stream).map_err(FsError::Connect)?;
        Ok(Self { config, backend: Some(backend), running: None })
    }
}

/// Docker's state directories are longer than the 108 bytes of a socket address: the socket is named through a
/// descriptor of its directory instead.
fn reach(socket: &Path) -> io::Result<UnixStream> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = File::options().read(true).custom_flags(flags).open(directory)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> DeviceType {
        DeviceType::FileSystem
    }

    fn queue_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    /// None of its own: those of the rings are the transport's, and the back end is held to them.
    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn polls_kicks(&self) -> bool {
        false
    }

    fn activate(&mut self, active: Active) -> Result<(), ActivateError> {
        let Active { memory, queues, interrupt, features, watcher } = active;
        let device = DeviceType::FileSystem;
        if queues.len() != QUEUES {
            return Err(ActivateError::Queues { device, expected: QUEUES, got: queues.len() });
        }
        let backend = self.backend.as_mut().ok_or(ActivateError::Backend { source: BackendError::Lost })?;
        backend
            .start(features, &memory, &queues, interrupt.raised_elsewhere())
            .map_err(|source| ActivateError::Backend { source })?;
        let watch = |source| ActivateError::Watch { device, source };
        let socket = backend.socket().map_err(watch)?;
        // A hang-up is always told.
        watcher.watch(socket.as_fd(), SOCKET, EventSet::READ_HANG_UP).map_err(watch)?;
        self.running = Some(Running { socket, memory, queues, interrupt, watcher });
        Ok(())
    }

    fn handle(&mut self, event: Token) -> Result<(), DeviceError> {
        let unexpected = DeviceError::Unexpected { token: event };
        match (event, &mut self.running) {
            (Token::Source { id: SOCKET, .. }, Some(running)) => {
                self.backend = None;
                running.adopt()
            }
            (Token::Source { id, .. }, Some(running)) if self.backend.is_none() => {
                let index = usize::try_from(id - 1).map_err(|_| unexpected)?;
                running.refuse(index)
            }
            _ => Err(unexpected),
        }
    }

    /// The back end has no way to forget what the driver knew of its files: it ends with its first driver.
    fn reset(&mut self) -> bool {
        if let Some(running) = self.running.take() {
            let _ = running.watcher.unwatch(running.socket.as_fd());
            // Of an orphaned queue, which the transport holds as well.
            running.queues.iter().for_each(|queue| drop(running.watcher.unwatch(queue.kick())));
        }
        self.backend = None;
        false
    }
}

impl Running {
    /// The back end is gone: its queues are this device's, from where it stopped.
    fn adopt(&mut self) -> Result<(), DeviceError> {
        let host = |what| move |source| DeviceError::Host { what, source };
        self.watcher.unwatch(self.socket.as_fd()).map_err(host("forget a socket"))?;
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            if !queue.queue.ready() {
                continue;
            }
            orphan::take_over(queue, &self.memory)?;
            let id = u32::try_from(index + 1).expect("two queues");
            self.watcher.watch(queue.kick(), id, EventSet::IN).map_err(host("watch a queue"))?;
            self.refuse(index)?;
        }
        // The back end may have returned requests of which it told nobody.
        self.interrupt.used().map_err(host("interrupt the guest"))
    }

    /// Answers everything that waits in a queue with an error.
    fn refuse(&mut self, index: usize) -> Result<(), DeviceError> {
        let Some(queue) = self.queues.get_mut(index) else {
            return Err(DeviceError::Chain { reason: "a queue that does not exist" });
        };
        // Empty when it was the device itself that asked for another turn.
        let _ = queue.kick.read();
        queue.drain(&self.memory, &self.interrupt, |chain| orphan::refuse(&self.memory, chain))
    }
}

#[cfg(test)]
mod tests;
