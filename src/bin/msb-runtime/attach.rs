//! The hidden verb `attach`: the process that stands for an exec towards its caller.

use std::{io, os::fd::AsFd, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use msb_agent::protocol::{Process, ProcessId};
use msb_runtime::{
    process::{
        agent::AgentError,
        attach::{self, AttachError, Attached},
        session::Signals,
        stdio, terminal,
    },
    sandbox::{
        child::{Moments, Parent, Word},
        control::Control,
    },
};
use nix::unistd;
use serde::{Deserialize, Serialize};

/// Exit code where the process never ran.
const FAILED: u8 = 255;

/// What it is told, once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The sandbox's directory.
    pub dir: PathBuf,
    /// What the guest calls the container's first process.
    pub container: ProcessId,
    /// What to run.
    pub process: Process,
    /// How long what it wrote may still be read after its end; none: as long as its reader is there.
    pub drain: Option<Duration>,
}

/// For this program's own use.
#[derive(Debug, Args)]
pub struct Attach {
    /// The socket to the parent.
    fd: i32,
}

impl Attach {
    /// Ends with the process's exit code.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (mut parent, order) =
            Parent::take::<Order>(self.fd).context("This verb is for msb-runtime's own use")?;
        let drain = order.drain;
        match prepare(order, &mut parent) {
            Ok(attached) => {
                drop(parent);
                Ok(ExitCode::from(attached.wait(drain)?.exit_code()))
            }
            Err(error) => {
                // Told by the parent, and by it alone.
                parent.say(&word(&error));
                Ok(ExitCode::from(FAILED))
            }
        }
    }
}

fn prepare(order: Order, parent: &mut Parent) -> anyhow::Result<Attached> {
    unistd::setsid().context("The process can't leave its caller's session")?;
    if order.process.terminal.is_some() {
        terminal::take_control(io::stdin().as_fd())?;
    }
    unistd::chdir("/").context("The root directory can't be entered")?;
    let signals = Signals::block()?;
    let control = Control::of(&order.dir);
    let door = |port| control.open(port);
    let mut attached = attach::create(&door, order.container, order.process, stdio::own()?, Some(signals))?;
    parent.say(&Word::Created(Moments::default()));
    parent.await_go().context("The caller is gone")?;
    attached.release()?;
    parent.say(&Word::Running);
    Ok(attached)
}

/// The guest's own no stays typed.
fn word(error: &anyhow::Error) -> Word {
    match error.downcast_ref::<AttachError>() {
        Some(AttachError::Agent(AgentError::Failed(failure))) => Word::Guest(failure.clone()),
        _ => Word::Failed(crate::report::chain(error)),
    }
}
