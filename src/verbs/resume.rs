//! Resume: a paused container goes on.

use super::VerbError;
use crate::{
    sandbox::control::Control,
    state::{Entry, Stage, StateError, Status},
};

/// Resumes the container of a locked entry.
///
/// # Errors
/// [`StateError::NotPaused`].
pub fn resume(entry: &Entry) -> Result<(), VerbError> {
    let mut record = entry.record()?;
    if record.status() != Status::Paused {
        return Err(StateError::NotPaused.into());
    }
    Control::of(entry.directory()).thaw()?;
    record.stage = Stage::Running;
    Ok(entry.set_record(&record)?)
}
