//! `kill ID [SIGNAL]`

use std::{process::ExitCode, sync::mpsc, thread, time::Duration};

use anyhow::Context as _;
use clap::Args;
use msb_agent::protocol::Failure;
use msb_runtime::{
    sandbox::control::{Control, ControlError},
    state::{Id, Process, StateError, Status},
};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::context::Context;

/// How long a guest may take to carry out a SIGKILL before its machine is ended.
const MERCY: Duration = Duration::from_secs(5);

/// Send a signal to a container's process.
#[derive(Debug, Args)]
pub struct Kill {
    /// To every process of the container.
    #[arg(short, long)]
    all: bool,
    /// Which container.
    id: String,
    /// A number, or a name with or without SIG.
    #[arg(default_value = "TERM", value_parser = number)]
    signal: i32,
}

impl Kill {
    /// Sends it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.look(&id)?;
        let record = entry.record()?;
        let status = record.status();
        if status == Status::Stopped {
            return Err(StateError::NotRunning.into());
        }
        let control = Control::of(entry.directory());
        match self.signal {
            libc::SIGKILL if status == Status::Creating => end(record.vmm)?,
            libc::SIGKILL => kill(control, record.vmm, self.all)?,
            signal => send(&control, signal, self.all)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn send(control: &Control, signal: i32, all: bool) -> anyhow::Result<()> {
    match control.signal(signal, all) {
        Err(ControlError::Guest(Failure::NoSuchProcess)) => Err(StateError::NotRunning.into()),
        result => Ok(result?),
    }
}

/// By way of the guest, so that what was written before is still told; a guest that does not obey loses its machine.
pub fn kill(control: Control, vmm: Process, all: bool) -> anyhow::Result<()> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more once the time is up.
        let _ = tell.send(control.signal(libc::SIGKILL, all));
    });
    match told.recv_timeout(MERCY) {
        Ok(Ok(())) => Ok(()),
        _ => end(vmm),
    }
}

/// Ends the VMM itself, and with it everything in the guest.
pub fn end(vmm: Process) -> anyhow::Result<()> {
    if !vmm.is_alive() {
        return Err(StateError::NotRunning.into());
    }
    match signal::kill(Pid::from_raw(vmm.pid), Signal::SIGKILL) {
        Err(Errno::ESRCH) => Err(StateError::NotRunning.into()),
        result => result.with_context(|| format!("The VMM, process {}, can't be killed", vmm.pid)),
    }
}

/// `9`, `KILL`, `SIGKILL`, `kill`.
fn number(text: &str) -> Result<i32, String> {
    let wrong = || format!("there is no signal {text:?}: give a number from 1 to 64, or a name such as TERM");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (text, expected) in
            [("15", 15), ("TERM", 15), ("SIGTERM", 15), ("usr1", 10), ("sigkill", 9), ("64", 64)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "NOSUCH"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
