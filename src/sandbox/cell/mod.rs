//! The machine as a process of its own, between walls.
//!
//! ```text
//!  sandbox process (root; the container's pid)              VMM process (a user of its own, no power, empty root, seccomp)
//!    control socket, agent, stdio, network's links            KVM, guest memory, processors, devices
//!    Handle ── orders, with the descriptors they need ──▶     inside.rs: puts them into slots, pauses, …
//!    Cell  ◀── events: built, a stream of the guest, ended ── device thread
//!    Lender ◀── which file of which layer ─── the file ──▶    device thread, for a composed disk
//!    log.rs ◀── the console's bytes, in a pipe                every thread
//! ```
//!
//! What a guest can break out into is the right-hand process: it can open nothing, connect to nothing and start nothing
//! (`host::walls`, `machine::seccomp`). The left-hand one never touches guest memory or a device's registers: of the guest it
//! reads the agent's frames, which are bounded and checked, and streams that it passes on.
//!
//! It is forked, not executed anew, before there is a second thread: what both have in common they share, and the start of a
//! program would cost each container a millisecond and its relocations' memory. The price: both have the same layout of
//! addresses, which is of use to nobody who can make no system call that takes one from the other.
//!
//! Enters: a [`MachineConfig`], and what becomes of forbidden calls. Leaves: a [`Cell`], whose end is the machine's: dropped, it
//! is killed and waited for; killed from outside, the kernel kills the other one. It must never know what streams carry.

#[cfg(test)]
mod breakout;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod handle;
mod inside;
mod lender;
mod log;
pub mod probe;
mod wire;
mod words;

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::{
    config::{Confinement, MachineConfig},
    host::walls,
    machine::{BuildError, Ended, console_log},
};
pub(super) use handle::{Handle, HandleError};
use lender::Lender;
use log::{Keeper, Log};
use wire::{Wire, WireError};
use words::Event;

/// How long it may take to build a machine, on a host that is busy.
const BUILD: Duration = Duration::from_secs(60);

/// How long a process that has closed its descriptors may take to be gone: it gives back the guest's memory.
const DEATH: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// A disk, or the console's log.
    #[error(transparent)]
    Disk(#[from] BuildError),
    /// No process.
    #[error("The VMM's process can't be started")]
    Fork(#[source] io::Error),
    /// It says no.
    #[error("The machine can't be built: {reason}")]
    Build {
        /// In its words.
        reason: String,
        /// It was the file system's back end that failed.
        file_system: bool,
    },
    /// It ended without a word.
    #[error("The VMM's process has ended while it built the machine ({status:?}){}", hint(.status))]
    Ended {
        /// How.
        status: Option<WaitStatus>,
    },
}

fn hint(status: &Option<WaitStatus>) -> &'static str {
    if is_signal(*status, Signal::SIGSYS) { FORBIDDEN } else { "" }
}

/// What to do about a call that the lists lack.
const FORBIDDEN: &str = ": it made a system call that its walls forbid, which a guest should not be able to cause. Look for \
                         `type=1326` in the host's kernel log, and report it";

fn is_signal(status: Option<WaitStatus>, signal: Signal) -> bool {
    matches!(status, Some(WaitStatus::Signaled(_, with, _)) if with == signal)
}

/// What the machine has to tell while it runs.
#[derive(Debug)]
pub(super) enum News {
    /// The guest opened a stream to this port of the host.
    Stream(u32, UnixStream),
    /// The machine has ended.
    Ended(Farewell),
}

/// How a machine ended.
#[derive(Debug, Clone)]
pub(super) enum Farewell {
    /// In order; the last of its console.
    Machine(Ended, String),
    /// By an error, in words.
    Failed(String),
    /// Its process was killed.
    Killed,
    /// Its process ended in another way, in words.
    Lost(String),
}

/// The VMM's process.
#[derive(Debug)]
pub(super) struct Cell {
    /// Until it was waited for: then the number may be another's.
    pid: Option<Pid>,
    handle: Handle,
    events: Wire,
    farewell: Option<Farewell>,
    log: Option<Keeper>,
}

impl Cell {
    /// Builds a machine in a process of its own, which waits between its walls for nothing any more: the guest runs.
    ///
    /// The calling process must have a single thread.
    ///
    /// # Errors
    /// [`CellError`]; then nothing is left of it.
    pub(super) fn enter(config: &MachineConfig, confinement: Confinement) -> Result<Self, CellError> {
        let lender = Arc::new(Lender::default());
        let disks = config.disks.iter().map(|disk| lender.lend(disk)).collect::<Result<Vec<_>, _>>()?;
        let wires = || Wire::pair().map_err(CellError::Fork);
        let ((orders, ordered), (events, telling), (files, asking)) = (wires()?, wires()?, wires()?);
        let (log, console) = Log::new(console_log(&config.console_log)?).map_err(CellError::Fork)?;
        let room =
            disks.iter().try_fold(0, |room, disk| Ok(disk.room()?.max(room))).map_err(CellError::Fork)?;
        let child = || {
            #[allow(unsafe_code, reason = "fork, in a process with one thread")]
            // SAFETY: there is one thread, so that no lock is held by another; the child never returns into this frame.
            match unsafe { fork() }? {
                ForkResult::Child => {
                    let wires = [&ordered, &telling, &asking];
                    inside::run(config, &disks, &console, wires, confinement, room)
                }
                ForkResult::Parent { child } => Ok(child),
            }
        };
        let pid = if confinement == Confinement::Off { child() } else { walls::apart(child) };
        let pid = pid.map_err(CellError::Fork)?;
        // Theirs are the child's alone now: their end is to be seen.
        drop((ordered, telling, asking, disks, console));
        let handle = Handle::new(
            orders,
            Arc::clone(&lender),
            (confinement != Confinement::Off).then_some((pid, room)),
        );
        let mut cell = Self { pid: Some(pid), handle, events, farewell: None, log: None };
        cell.log = Some(log.keep().map_err(CellError::Fork)?);
        let slots = cell.built()?;
        cell.handle.has_slots(slots);
        lender.serve(files).map_err(CellError::Fork)?;
        Ok(cell)
    }

    fn built(&mut self) -> Result<usize, CellError> {
        match self.event(BUILD) {
            Some(Ok((Event::Built { slots }, _))) => Ok(slots),
            Some(Ok((Event::Failed { reason, file_system }, _))) => {
                Err(CellError::Build { reason, file_system })
            }
            _ => Err(CellError::Ended { status: self.wait() }),
        }
    }

    /// The machine, for other threads.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The next event, if it comes in time.
    fn event(&self, patience: Duration) -> Option<Result<(Event, Vec<OwnedFd>), WireError>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return None,
                Ok(_) => return Some(self.events.receive()),
            }
        }
    }

    /// What the machine tells, if it does in time; its end again and again.
    pub(super) fn news(&mut self, patience: Duration) -> Option<News> {
        if let Some(farewell) = &self.farewell {
            return Some(News::Ended(farewell.clone()));
        }
        let farewell = match self.event(patience)? {
            Ok((Event::Stream { port }, fds)) => {
                // What isn't one is of no use to whoever gets it, and closed by him.
                let stream = fds.into_iter().next().and_then(wire::stream)?;
                return Some(News::Stream(port, stream));
            }
            Ok((Event::Ended { how, tail }, _)) => Farewell::Machine(how, tail),
            Ok((Event::Failed { reason, .. }, _)) => Farewell::Failed(reason),
            Ok((Event::Built { .. }, _)) => return None,
            Err(_) => match self.wait() {
                status if is_signal(status, Signal::SIGKILL) => Farewell::Killed,
                status if is_signal(status, Signal::SIGSYS) => {
                    Farewell::Lost(format!("The VMM was ended{FORBIDDEN}"))
                }
                status => Farewell::Lost(format!("The VMM has ended ({status:?})")),
            },
        };
        self.farewell = Some(farewell.clone());
        Some(News::Ended(farewell))
    }

    /// A descriptor that is readable when there are news; none once the end was told.
    pub(super) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.farewell.is_none().then(|| self.events.as_fd())
    }

    /// How it ended, which it has or is about to.
    fn wait(&mut self) -> Option<WaitStatus> {
        let pid = self.pid?;
        let deadline = Instant::now() + DEATH;
        while Instant::now() < deadline {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => thread::sleep(LOOK),
                ended => {
                    self.pid = None;
                    return ended.ok();
                }
            }
        }
        None
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // When this returns, nothing writes to its disks any more.
        if let Some(pid) = self.pid.take() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
        // Whole now: nobody is left who could write to it.
        self.log = None;
    }
}
