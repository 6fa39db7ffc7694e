//! Kill: a signal for a container's processes.

use std::{sync::mpsc, thread, time::Duration};

use msb_agent::protocol::Failure;
use nix::{
    errno::Errno,
    libc,
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::VerbError;
use crate::{
    sandbox::control::{Control, ControlError},
    state::{Entry, Process, Stage, StateError, Status},
};

/// How long a guest may take to carry out a SIGKILL before its machine is ended.
const MERCY: Duration = Duration::from_secs(5);

/// Sends a signal to the first process, or to all, of an entry that is not locked.
///
/// # Errors
/// [`StateError::NotRunning`].
pub fn send(entry: &Entry, signal: i32, all: bool) -> Result<(), VerbError> {
    let record = entry.record()?;
    let status = record.status();
    if status == Status::Stopped {
        return Err(StateError::NotRunning.into());
    }
    let control = Control::of(entry.directory());
    match signal {
        libc::SIGKILL if status == Status::Creating => end(record.vmm),
        libc::SIGKILL => {
            kill(control, record.vmm, all)?;
            if status == Status::Paused { no_longer_paused(entry) } else { Ok(()) }
        }
        signal => match control.signal(signal, all) {
            Err(ControlError::Guest(Failure::NoSuchProcess)) => Err(StateError::NotRunning.into()),
            result => Ok(result?),
        },
    }
}

/// What is killed while it is paused ends at once, as with runc, and nobody can resume it: Docker tries, and would tell of an
/// `unpause`.
fn no_longer_paused(entry: &Entry) -> Result<(), VerbError> {
    let marked = entry.locked().and_then(|entry| {
        let mut record = entry.record()?;
        if matches!(record.stage, Stage::Pausing | Stage::Paused) {
            record.stage = Stage::Running;
            entry.set_record(&record)?;
        }
        Ok(())
    });
    match marked {
        // Removed meanwhile.
        Err(StateError::DoesNotExist) => Ok(()),
        result => Ok(result?),
    }
}

/// By way of the guest, so that what was written before is still told; a guest that does not obey loses its machine.
pub(super) fn kill(control: Control, vmm: Process, all: bool) -> Result<(), VerbError> {
    let (tell, told) = mpsc::channel();
    let asking = thread::Builder::new().spawn(move || {
        // Nobody listens any more once the time is up.
        let _ = tell.send(control.signal(libc::SIGKILL, all));
    });
    if asking.is_err() {
        // The host has no room for another thread: the end of it all needs none.
        return end(vmm);
    }
    match told.recv_timeout(MERCY) {
        Ok(Ok(())) => Ok(()),
        _ => end(vmm),
    }
}

/// Ends the VMM itself, and with it everything in the guest.
pub(super) fn end(vmm: Process) -> Result<(), VerbError> {
    if !vmm.is_alive() {
        return Err(StateError::NotRunning.into());
    }
    match signal::kill(Pid::from_raw(vmm.pid), Signal::SIGKILL) {
        Err(Errno::ESRCH) => Err(StateError::NotRunning.into()),
        result => result.map_err(|source| VerbError::Unkillable { pid: vmm.pid, source }),
    }
}
