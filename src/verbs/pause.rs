//! Pause: the container stands still, and all that it wrote is in its root on the host.

use super::{Lent, VerbError};
use crate::{
    image::Moment,
    sandbox::control::Control,
    state::{Entry, Stage, StateError, Status},
};

/// Pauses the container of a locked entry.
///
/// # Errors
/// [`StateError::NotRunning`]; then, and whatever else fails, it runs as before.
pub fn pause(entry: &Entry) -> Result<(), VerbError> {
    let mut record = entry.record()?;
    if record.status() != Status::Running {
        return Err(StateError::NotRunning.into());
    }
    let control = Control::of(entry.directory());
    control.freeze()?;
    // Who pauses in order to look at the root (as a commit does) must see what was written.
    // What came back in part comes so again at the end, which tells it.
    let brought = Lent::load(entry)?.map_or(Ok(None), |lent| lent.bring_back(Moment::Paused));
    if let Err(error) = brought {
        // It must not stay frozen as one that runs. The first error is the one to tell.
        let _ = control.thaw();
        return Err(error.into());
    }
    record.stage = Stage::Paused;
    Ok(entry.set_record(&record)?)
}
