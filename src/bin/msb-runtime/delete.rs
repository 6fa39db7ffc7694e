//! `delete ID`

use std::{
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use msb_runtime::{
    host::hooks,
    image::{BringBackError, Moment},
    sandbox::control::Control,
    state::{Entry, Id, Process, Record, StateError, Status},
};

use crate::{context::Context, kill, lent::Lent, show};

/// How long a killed VMM may take to be gone: it gives back the guest's memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Remove a container.
#[derive(Debug, Args)]
pub struct Delete {
    /// Also if it runs, or was never complete, or does not exist.
    #[arg(short, long)]
    force: bool,
    /// Which container.
    id: String,
}

impl Delete {
    /// Removes it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = match context.store.lock(&id) {
            Err(StateError::DoesNotExist) if self.force => return Ok(ExitCode::SUCCESS),
            entry => entry?,
        };
        match entry.record() {
            Ok(record) => {
                stop(entry.directory(), &record, self.force)?;
                remove(entry, Some(&record), self.force, context)?;
            }
            // Its create was killed, or its record is of no use: what there is goes.
            Err(_) if self.force => remove(entry, None, true, context)?,
            Err(error) => return Err(error.into()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes a container that was made for nothing.
pub fn by_force(entry: Entry, record: &Record, context: &Context) -> anyhow::Result<()> {
    stop(entry.directory(), record, true)?;
    remove(entry, Some(record), true, context)
}

/// Removes a container that has ended; another command may have done so already.
pub fn after_end(id: &Id, context: &Context) -> anyhow::Result<()> {
    let entry = match context.store.lock(id) {
        Err(StateError::DoesNotExist) => return Ok(()),
        entry => entry?,
    };
    let record = entry.record()?;
    remove(entry, Some(&record), false, context)
}

/// Makes sure that the VMM is gone. One that waits for `start` is ended, as runc does; one that runs only by force.
fn stop(directory: &Path, record: &Record, force: bool) -> anyhow::Result<()> {
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
    if kill::end(record.vmm).is_err() && record.vmm.is_alive() {
        bail!("The VMM, process {}, can't be killed", record.vmm.pid);
    }
    gone(record.vmm)
}

fn gone(vmm: Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while vmm.is_alive() {
        if Instant::now() >= deadline {
            bail!(
                "The VMM, process {}, was killed and does not end: is the host out of memory or I/O stuck?",
                vmm.pid
            );
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Brings back what the container wrote, takes back what was lent, frees the id, and runs the hooks of the end.
///
/// While the host can't take what was written, the container stays, so that its delete can be tried again; by `force` it
/// goes, and the disk is put aside. A disk that makes no sense is always put aside. Either is an error, told at the end.
fn remove(entry: Entry, record: Option<&Record>, force: bool, context: &Context) -> anyhow::Result<()> {
    // A list of what was lent that can't be read must not keep the id for ever.
    let lent = Lent::load(&entry).unwrap_or_default();
    let mut lost = Ok(());
    if let Some(lent) = &lent {
        lost = match lent.bring_back(Moment::Ended) {
            Err(error @ BringBackError::Host { .. }) if !force => return Err(error.into()),
            Err(error @ BringBackError::Host { .. }) => {
                let disk = lent.keep_disk()?;
                Err(anyhow::Error::from(error).context(format!("The disk is kept as {}", disk.display())))
            }
            other => other.map_err(anyhow::Error::from),
        };
        lent.take_back()?;
    }
    entry.remove()?;
    if let (Some(lent), Some(record)) = (lent, record) {
        let state = show::for_hooks(record, Status::Stopped);
        // It is gone: what they make of it can't undo that.
        context.report.warnings(hooks::run_all(&lent.hooks.poststop, &state, &record.bundle));
    }
    lost
}
