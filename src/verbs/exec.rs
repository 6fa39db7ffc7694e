//! Exec: when one more process can run in a container. How it is joined to its caller is the caller's.

use std::{thread, time::Duration};

use msb_agent::protocol as agent;

use super::{Lent, VerbError, create};
use crate::{
    bundle::Process,
    config,
    state::{Entry, Record, Status},
};

/// How often a paused container is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The container, once something can run in it. With `wait` one that is paused is waited for.
///
/// # Errors
/// [`VerbError::ExecStopped`], [`VerbError::ExecPaused`].
pub fn ready(entry: &Entry, wait: bool) -> Result<Record, VerbError> {
    loop {
        let record = entry.record()?;
        match record.status() {
            Status::Stopped => return Err(VerbError::ExecStopped),
            Status::Paused if wait => thread::sleep(LOOK),
            Status::Paused => return Err(VerbError::ExecPaused),
            Status::Creating | Status::Created | Status::Running => return Ok(record),
        }
    }
}

/// One more process of the container of `entry`, as its agent begins it. From now on the container may do to its files what this
/// process may.
///
/// # Errors
/// [`VerbError`]: what can't be begun, and the record.
pub fn prepare(entry: &Entry, process: &Process, has_stdin: bool) -> Result<agent::Process, VerbError> {
    let mut made = config::process(process, has_stdin, None)?;
    Lent::admit(entry, process)?;
    create::inherit(&mut made);
    Ok(made)
}
