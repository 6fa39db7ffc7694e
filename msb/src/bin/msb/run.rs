//! `run IMAGE [COMMAND…]` and `create`.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use msb::sandbox::{
    Failure, Key, Request, Restart, Stored,
    keep::{self, Front},
};
use msb_runtime::host::fds;

use crate::{Scope, options::Options, progress::Bars};

/// What Docker ends with where the program can't be run, and where it is not there.
const CANNOT: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Make a sandbox of an image and run a command in it.
#[derive(Debug, Args)]
pub struct Run {
    /// Leave it running and print its name.
    #[arg(short, long)]
    detach: bool,
    /// Remove it when it ends; so is one in the foreground whose image and name nobody gives.
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    options: Options,
}

/// Make a sandbox of an image, to be started later.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    options: Options,
}

impl Create {
    /// As for [`Run`].
    pub fn is_bare(&self) -> bool {
        self.options.is_bare()
    }

    /// As for [`Run`].
    pub fn set_command(&mut self, command: &[String]) {
        self.options.set_command(command);
    }

    /// Makes it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = self.options.key(scope)?;
        let (request, doubt) = self.options.request(scope, false, false)?;
        create(scope, &key, request, doubt)?;
        println!("{}", key.name);
        Ok(ExitCode::SUCCESS)
    }
}

fn create(scope: &Scope, key: &Key, request: Request, doubt: Option<String>) -> anyhow::Result<()> {
    let made = scope.sandboxes.create(key, request, &Bars::new());
    match doubt {
        Some(doubt) => made.context(doubt),
        None => Ok(made?),
    }
}

impl Run {
    /// A shell in the default image, which is gone when it ends.
    pub fn shell(terminal: bool) -> Self {
        Self { detach: false, rm: true, options: Options::shell(terminal) }
    }

    /// Whether nothing says yet of which image, or what to run.
    pub fn is_bare(&self) -> bool {
        self.options.is_bare()
    }

    /// A command for the default image, and no image before it.
    pub fn set_command(&mut self, command: &[String]) {
        self.options.set_command(command);
    }

    /// The image and the command, as they were read.
    #[cfg(test)]
    pub fn words(self) -> (Option<String>, Vec<String>) {
        self.options.read()
    }

    /// Runs it.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        // What the caller has leaked to this process must not live as long as a machine.
        fds::forget_inherited()
            .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
        if self.options.restart != Restart::No {
            if !self.detach {
                anyhow::bail!("--restart is for a sandbox in the background: give -d");
            }
            if self.rm || self.options.timeout.is_some() || self.options.idle_timeout.is_some() {
                anyhow::bail!("--restart goes with none of --rm, --timeout and --idle-timeout");
            }
        }
        if self.options.tty && !self.detach && !io::stdin().is_terminal() {
            anyhow::bail!("The input is no terminal: leave -t out");
        }
        let key = self.options.key(scope)?;
        let (sandboxes, detach) = (&scope.sandboxes, self.detach);
        let (request, doubt) = self.options.request(scope, self.rm, !detach)?;
        let removed = request.remove;
        create(scope, &key, request, doubt)?;
        let done = if detach {
            scope.start(&key).map(|()| {
                println!("{}", key.name);
                0
            })
        } else {
            keep::hold_signals().context("Signals can't be forwarded")?;
            sandboxes.keep(&sandboxes.place(&key), Front::Own, warn).map(|life| life.code)
        };
        match done {
            Ok(code) => Ok(ExitCode::from(code)),
            Err(failure) => {
                if removed || is_new(&scope.sandboxes, &key) {
                    // It was made for this start only. The start's failure is the one to tell.
                    let _ = scope.sandboxes.remove(&key);
                }
                told(failure)
            }
        }
    }
}

/// Tells how the walls of one that was started are relaxed.
pub fn warn(stored: &Stored) {
    if let Some(words) = stored.warning() {
        eprintln!("msb: {words}");
    }
}

/// Whether it never ran.
fn is_new(sandboxes: &msb::sandbox::Sandboxes, key: &Key) -> bool {
    sandboxes.find(key).is_ok_and(|(_, stored)| stored.started.is_none())
}

/// Docker's codes for a program that can't be run.
pub fn told(failure: Failure) -> anyhow::Result<ExitCode> {
    if let Failure::NoProgram { reason, .. } = &failure {
        eprintln!("msb: {}", msb_runtime::plain::lines(&failure.to_string()));
        let missing = reason.contains("not found") || reason.contains("no such file");
        return Ok(ExitCode::from(if missing { NOT_FOUND } else { CANNOT }));
    }
    Err(failure.into())
}
