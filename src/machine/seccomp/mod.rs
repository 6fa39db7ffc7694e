//! Which system calls each kind of thread of a confined machine may make.
//!
//! | kind | what it does |
//! |---|---|
//! | vCPU | runs the guest, serves its registers, activates and resets devices at the driver's word |
//! | device | waits for events, moves bytes between guest memory and what is open already; a device gives up there |
//! | main | takes orders: puts devices that it is handed into slots and takes them away, stops and lets go processors |
//!
//! Nothing is opened, connected, mapped to be executed or started behind the walls, so that none of the lists has `open`,
//! `socket`, `connect`, `execve`, `clone` of a process, `io_uring_setup`, `ptrace` or `bpf`. `ioctl`, `fcntl` and `madvise` are
//! held to the requests that the kind makes, memory to what is not executed. Rings are made before and hold themselves to their
//! operations (`virtio::block::ring`): a filter does not see what goes through a ring.
//!
//! Enters: what becomes of a thread that calls something else. Leaves: programs for the kernel, to be loaded by each thread
//! for itself, for good. It must never know what is behind a descriptor.

mod calls;
mod filter;

use seccompiler::{BpfProgram, sock_filter};
use thiserror::Error;

use crate::bpf::Instruction;

/// What becomes of a thread that makes another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole process ends at once, by SIGSYS.
    Kill,
    /// The call is made; the host's kernel log has a line of it (`type=1326`), not too often.
    Log,
}

/// The kinds of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A virtual processor.
    Vcpu,
    /// The one that serves all devices.
    Device,
    /// The one that takes orders.
    Main,
}

/// The kernel does not take a program.
#[derive(Debug, Error)]
#[error("The kernel does not load a filter for system calls")]
pub struct SeccompError(#[from] seccompiler::Error);

/// The programs of all kinds.
#[derive(Debug, Clone)]
pub struct Filters {
    vcpu: BpfProgram,
    device: BpfProgram,
    main: BpfProgram,
}

impl Filters {
    /// With that verdict.
    pub fn new(verdict: Verdict) -> Self {
        let otherwise = match verdict {
            Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
            Verdict::Log => libc::SECCOMP_RET_LOG,
        };
        let program = |kind| filter::compile(&calls::of(kind), otherwise).into_iter().map(loaded).collect();
        Self { vcpu: program(Kind::Vcpu), device: program(Kind::Device), main: program(Kind::Main) }
    }

    /// Holds the calling thread, and those that it starts, to what its kind may call.
    ///
    /// # Errors
    /// [`SeccompError`].
    pub fn hold(&self, kind: Kind) -> Result<(), SeccompError> {
        let program = match kind {
            Kind::Vcpu => &self.vcpu,
            Kind::Device => &self.device,
            Kind::Main => &self.main,
        };
        Ok(seccompiler::apply_filter(program)?)
    }
}

/// Makes this process one that the lists are enough for: before it has a second thread.
///
/// glibc gives threads heaps of their own, and opens a file of `/proc` when a part of one is free, to see how to give it back. The
/// first heap, which all have together then, is given back without.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "the allocator's settings have no wrapper")]
    // SAFETY: a plain number; it can only be refused, and this one is not.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// As the crate has it that loads it.
fn loaded(of: Instruction) -> sock_filter {
    let Instruction { code, jump_true, jump_false, k } = of;
    sock_filter { code, jt: jump_true, jf: jump_false, k }
}

#[cfg(test)]
mod tests;
