//! Delete: what a container wrote is brought back, what it was lent is taken back, and its id is free.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Context, Lent, VerbError, hook_state, kill};
use crate::{
    host::hooks,
    image::{BringBackError, Moment},
    sandbox::control::Control,
    state::{Entry, Id, Process, Record, StateError, Status},
};

/// How long a killed VMM may take to be gone: it gives back the guest's memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a container; with `force` also one that runs, was never complete, or does not exist.
///
/// # Errors
/// [`StateError::DoesNotExist`], [`StateError::NotStopped`] without `force`; [`VerbError::BringBack`],
/// [`VerbError::Kept`].
pub fn delete(id: &Id, force: bool, context: &Context) -> Result<(), VerbError> {
    let entry = match context.store.lock(id) {
        Err(StateError::DoesNotExist) if force => return Ok(()),
        entry => entry?,
    };
    match entry.record() {
        Ok(record) => {
            stop(entry.directory(), &record, force)?;
            remove(entry, Some(&record), force, context)
        }
        // Its create was killed, or its record is of no use: what there is goes.
        Err(_) if force => remove(entry, None, true, context),
        Err(error) => Err(error.into()),
    }
}

/// Removes a container that was made for nothing.
///
/// # Errors
/// As [`delete`].
pub fn by_force(entry: Entry, record: &Record, context: &Context) -> Result<(), VerbError> {
    stop(entry.directory(), record, true)?;
    remove(entry, Some(record), true, context)
}

/// Removes a container that has ended; another command may have done so already.
///
/// # Errors
/// As [`delete`].
pub fn after_end(id: &Id, context: &Context) -> Result<(), VerbError> {
    let entry = match context.store.lock(id) {
        Err(StateError::DoesNotExist) => return Ok(()),
        entry => entry?,
    };
    let record = entry.record()?;
    remove(entry, Some(&record), false, context)
}

/// Makes sure that the VMM is gone. One that waits for `start` is ended, as runc does; one that runs only by force.
fn stop(directory: &Path, record: &Record, force: bool) -> Result<(), VerbError> {
    let status = record.status();
    match status {
        Status::Stopped => return Ok(()),
        Status::Running | Status::Paused | Status::Creating if !force => {
            return Err(StateError::NotStopped { id: record.id.clone(), status }.into());
        }
        Status::Created | Status::Running | Status::Paused | Status::Creating => {}
    }
    // What it wrote shall be whole, also on disks that are not brought back. A guest need not obey.
    if matches!(status, Status::Created | Status::Running)
        && kill::kill(Control::of(directory), record.vmm, true).is_ok()
        && gone(record.vmm).is_ok()
    {
        return Ok(());
    }
    // It may end by itself just now.
    if let Err(error) = kill::end(record.vmm)
        && record.vmm.is_alive()
    {
        return Err(error);
    }
    gone(record.vmm)
}

fn gone(vmm: Process) -> Result<(), VerbError> {
    let deadline = Instant::now() + PATIENCE;
    while vmm.is_alive() {
        if Instant::now() >= deadline {
            return Err(VerbError::Stuck { pid: vmm.pid });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Brings back what the container wrote, takes back what was lent, frees the id, and runs the hooks of the end.
///
/// While the host can't take what was written, the container stays, so that its delete can be tried again; by `force` it
/// goes, and the disk is put aside. A disk that makes no sense is always put aside. Either is an error, told at the end.
fn remove(entry: Entry, record: Option<&Record>, force: bool, context: &Context) -> Result<(), VerbError> {
    // A list of what was lent that can't be read must not keep the id for ever.
    let lent = Lent::load(&entry).unwrap_or_default();
    let mut lost = Ok(());
    if let Some(lent) = &lent {
        // Nobody writes to its disk any more.
        lent.dismiss()?;
        lost = match lent.bring_back(Moment::Ended) {
            Err(error @ (BringBackError::Host { .. } | BringBackError::Busy { .. })) if !force => {
                return Err(error.into());
            }
            Err(error @ (BringBackError::Host { .. } | BringBackError::Busy { .. })) => {
                Err(VerbError::Kept { disk: lent.keep_disk()?, source: error })
            }
            other => other.map_err(VerbError::from).map(|partly| context.warn_all(partly)),
        };
        lent.take_back()?;
    }
    entry.remove()?;
    if let (Some(lent), Some(record)) = (lent, record) {
        let state = hook_state::of(record, Status::Stopped);
        // It is gone: what they make of it can't undo that.
        context.warn_all(hooks::run_all(&lent.hooks.poststop, &state, &record.bundle));
    }
    lost
}
