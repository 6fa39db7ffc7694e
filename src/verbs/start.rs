//! Start: a created container's process is let go.

use super::{Context, Lent, VerbError, hook_state};
use crate::{
    host::hooks,
    sandbox::control::Control,
    state::{Entry, Record, Stage, StateError, Status},
};

/// Starts the container of a locked entry.
///
/// # Errors
/// [`StateError::NotCreated`]; the guest's own words for a command that can't be run.
pub fn start(entry: &Entry, mut record: Record, context: &Context) -> Result<(), VerbError> {
    let status = record.status();
    if status != Status::Created {
        return Err(StateError::NotCreated { status }.into());
    }
    let lent = Lent::load(entry)?;
    let hooks = lent.as_ref().is_some_and(|lent| lent.start_hooks);
    Control::of(entry.directory()).start(hooks)?;
    record.stage = Stage::Running;
    entry.set_record(&record)?;
    if let Some(lent) = lent {
        let state = hook_state::of(&record, Status::Running);
        // It runs: what they make of it can't undo that.
        context.warn_all(hooks::run_all(&lent.hooks.poststart, &state, &record.bundle));
    }
    Ok(())
}
