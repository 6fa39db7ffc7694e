//! Delete: what a container wrote is brought back, what it was lent is taken back, and its id is free.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{Context, Lent, VerbError, hook_state, kill};
use crate::{
    host::hooks,
    image::{self, BringBackError, Moment},
    sandbox::control::Control,
    state::{Entry, Id, Process, Record, StateError, Status},
};

/// How long a killed VMM may take to be gone: it gives back the guest's memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of what the container wrote, while the host can't take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// The container stays, so that its delete can be tried again.
    Stays,
    /// Its disk is put aside, and the container goes.
    IsKept,
    /// It goes as well, whether the host could take it or not.
    Goes,
}

/// Removes a container; with `force` also one that runs, was never complete, or does not exist.
///
/// # Errors
/// [`StateError::DoesNotExist`], [`StateError::NotStopped`] without `force`; [`VerbError::BringBack`],
/// [`VerbError::Kept`].
pub fn delete(id: &Id, force: bool, context: &Context) -> Result<(), VerbError> {
    let written = if force { Written::IsKept } else { Written::Stays };
    whatever_it_is(id, force, written, context)
}

/// Ends a container, if there is one, and removes it once the host has all that it wrote.
///
/// # Errors
/// [`VerbError::BringBack`]: it has ended, and this can be tried again.
pub fn to_rest(id: &Id, context: &Context) -> Result<(), VerbError> {
    whatever_it_is(id, true, Written::Stays, context)
}

/// Ends a container, if there is one, and removes it with all that it wrote and the host does not have yet.
///
/// # Errors
/// As [`delete`], but for what was written.
pub fn discard(id: &Id, context: &Context) -> Result<(), VerbError> {
    whatever_it_is(id, true, Written::Goes, context)?;
    // Of one whose record went before it.
    image::remove(&super::lent::disks(&context.store.directory(id))).map_err(VerbError::Left)
}

fn whatever_it_is(id: &Id, force: bool, written: Written, context: &Context) -> Result<(), VerbError> {
    let entry = match context.store.lock(id) {
        Err(StateError::DoesNotExist) if force => return Ok(()),
        entry => entry?,
    };
    match entry.record() {
        Ok(record) => {
            stop(entry.directory(), &record, force)?;
            remove(entry, Some(&record), written, context)
        }
        // Its create was killed, or its record is of no use: what there is goes.
        Err(_) if force => remove(entry, None, written, context),
        Err(error) => Err(error.into()),
    }
}

/// Removes a container that was made for nothing.
///
/// # Errors
/// As [`delete`].
pub fn by_force(entry: Entry, record: &Record, context: &Context) -> Result<(), VerbError> {
    stop(entry.directory(), record, true)?;
    remove(entry, Some(record), Written::IsKept, context)
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
    remove(entry, Some(&record), Written::Stays, context)
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
/// A disk that makes no sense is always put aside. That, and one that is kept, is an error, told at the end.
fn remove(
    entry: Entry,
    record: Option<&Record>,
    written: Written,
    context: &Context,
) -> Result<(), VerbError> {
    // A list of what was lent that can't be read must not keep the id for ever.
    let lent = Lent::load(&entry).unwrap_or_default();
    let mut lost = Ok(());
    if let Some(lent) = &lent {
        // Nobody writes to its disk any more.
        lent.dismiss()?;
        let brought = if written == Written::Goes { Ok(None) } else { lent.bring_back(Moment::Ended) };
        lost = match brought {
            Err(error @ (BringBackError::Host { .. } | BringBackError::Busy { .. }))
                if written == Written::Stays =>
            {
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
