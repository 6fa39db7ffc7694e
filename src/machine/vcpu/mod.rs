//! Virtual processors: a thread each, which runs the guest and serves its exits.
//!
//! Enters: a processor that was set up, the buses. Leaves: the end of the machine, when one of them sees it.
//! Must never know which device it talks to.

#[cfg(target_arch = "x86_64")]
#[path = "cpuid_x86_64.rs"]
pub mod cpuid;
mod exits;
pub(super) mod gate;
mod kick;
#[cfg_attr(target_arch = "x86_64", path = "setup_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "setup_aarch64.rs")]
pub mod setup;

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_ioctls::VcpuFd;
use thiserror::Error;

use super::boot;
use super::handle::End;
use super::kvm::{KvmProblem, PutOff};
use super::seccomp::{Filters, Kind, SeccompError};
pub use exits::Buses;
use gate::Gate;
pub use gate::Stuck;

/// How long a processor may take to leave the guest. Microseconds are usual; a host that swaps takes longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this the kick is repeated.
const KICK_AGAIN: Duration = Duration::from_millis(2);

/// Why a processor cannot go on. Each is final for the machine.
#[derive(Debug, Error)]
pub enum VcpuError {
    /// The check before the first instruction, or a request that KVM refused.
    #[error(transparent)]
    Kvm(#[from] KvmProblem),
    /// No filter for system calls.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// KVM_RUN failed.
    #[error("KVM stopped running the guest (errno {errno}); see `dmesg` of the host")]
    Run {
        /// Linux error number.
        errno: i32,
    },
    /// The processor refused the guest's state.
    #[error(
        "The processor refused to enter the guest (hardware reason {reason:#x}); see `dmesg` of the host"
    )]
    Entry {
        /// The hardware's code.
        reason: u64,
    },
    /// KVM_EXIT_INTERNAL_ERROR: on a sound KVM a guest does this only by executing what is not memory.
    #[error(
        "KVM could not continue the guest: an instruction that it cannot emulate, or an error of its own"
    )]
    Internal,
    /// An exit that nothing asked for.
    #[error("KVM came back with an unexpected exit: {exit}")]
    Unexpected {
        /// Its name.
        exit: String,
    },
}

/// A processor ready for its thread.
#[derive(Debug)]
pub struct Processor {
    fd: VcpuFd,
    id: u8,
    /// Only the first one has it: the others wait inside KVM until the guest starts them.
    start: Option<boot::arch::Start>,
}

impl Processor {
    /// Number `id`; `start` for the first one.
    pub fn new(fd: VcpuFd, id: u8, start: Option<boot::arch::Start>) -> Self {
        Self { fd, id, start }
    }

    /// Starts the thread.
    pub(super) fn spawn(
        self,
        buses: &Arc<Buses>,
        end: &Arc<End>,
        gate: &Arc<Gate>,
        filters: Option<Arc<Filters>>,
    ) -> io::Result<Running> {
        let (buses, end, gate) = (Arc::clone(buses), Arc::clone(end), Arc::clone(gate));
        let name = format!("vcpu{}", self.id);
        let thread = std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            if let Some(how) = self.run(&buses, &end, &gate, filters.as_deref()) {
                end.set(how);
            }
        })?;
        Ok(Running(thread))
    }

    /// Runs until the end of the machine; says how, if this processor is the one that saw it.
    fn run(
        mut self,
        buses: &Buses,
        end: &End,
        gate: &Gate,
        filters: Option<&Filters>,
    ) -> Option<Result<super::Ended, VcpuError>> {
        let kickable = kick::enter(&mut self.fd);
        let place = gate.enter();
        let first = self.start.is_some();
        if let Some(start) = self.start.take()
            && let Err(problem) = start.apply(&mut self.fd)
        {
            return Some(Err(problem.into()));
        }
        if let Some(Err(problem)) = filters.map(|filters| filters.hold(Kind::Vcpu)) {
            return Some(Err(problem.into()));
        }
        if first {
            end.entering();
        }
        let mut put_off = PutOff::default();
        loop {
            kickable.clear();
            if end.is_set() {
                return None;
            }
            if place.pass() {
                self.stood_still();
            }
            match self.fd.run() {
                Ok(exit) => {
                    put_off = PutOff::default();
                    if let Some(how) = exits::serve(exit, buses) {
                        return Some(how);
                    }
                }
                Err(error) if error.errno() == libc::EINTR => {}
                // The others wait to be started, and are told so each time that something wakes them.
                Err(error) if error.errno() == libc::EAGAIN => {
                    if first && let Err(problem) = put_off.once_more() {
                        return Some(Err(problem.into()));
                    }
                }
                Err(error) => return Some(Err(VcpuError::Run { errno: error.errno() })),
            }
        }
    }

    /// Tells the guest that it stood still, so that its watchdogs don't take the time for a fault of its own.
    fn stood_still(&self) {
        // One that has no kvm-clock has no watchdog that asks it.
        #[cfg(target_arch = "x86_64")]
        let _ = self.fd.kvmclock_ctrl();
    }
}

/// Stack of a processor's thread: exits are served without recursion or large buffers.
const STACK: usize = 256 << 10;

/// A processor's thread.
#[derive(Debug)]
pub(super) struct Running(JoinHandle<()>);

/// Gets all processors out of the guest after the end was set. Bounded: a thread that does not come back is left
/// behind; it holds what it uses.
pub(super) fn leave(processors: Vec<Running>) {
    let deadline = Instant::now() + PATIENCE;
    for Running(thread) in processors {
        while !thread.is_finished() && Instant::now() < deadline {
            kick::kick(thread.as_pthread_t());
            let again = Instant::now() + KICK_AGAIN;
            while !thread.is_finished() && Instant::now() < again {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        if thread.is_finished() {
            // A panic of the thread was reported by it.
            let _ = thread.join();
        }
    }
}

/// Prepares this process for [`Processor::spawn`].
pub(super) fn prepare() -> Result<(), KvmProblem> {
    kick::install().map_err(|errno| KvmProblem::Refused { what: "be interrupted by a signal", errno })
}
