//! The saved states of the virtual host that a test can start from, and how one is made.
//!
//! Enters: the disk image and the agent. Leaves: a folder with the prepared disk and the state that belongs to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::channel::{Channel, ChannelError, Sinks};
use super::image::EMULATOR;
use super::last_lines;
use super::monitor::MonitorError;
use super::payload::{self, PayloadError};
use super::protocol::Start;
use super::qemu::{self, Clock, Machine, Qemu, QemuError};

/// How long the first boot, and the preparation, may take on a machine that does much else.
const BOOT: Duration = Duration::from_secs(1200);

/// What is done once in the host, before its state is saved.
pub const PREPARE: &str = include_str!("files/prepare.sh");

/// A saved state to start from. All have Docker, containerd and podman ready, and the image `busybox` in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fixture {
    /// For tests.
    Plain,
    /// For measurements: one instruction is one nanosecond of the host's time.
    Icount,
}

impl Fixture {
    /// Its name, as part of file names.
    pub fn name(self) -> &'static str {
        match self {
            Fixture::Plain => "plain",
            Fixture::Icount => "icount",
        }
    }

    /// How its processor counts time.
    pub fn clock(self) -> Clock {
        match self {
            Fixture::Plain => Clock::Wall,
            Fixture::Icount => Clock::Instructions,
        }
    }
}

/// Why a state could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A file of ours.
    #[error("{path} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No payload disk.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// No machine.
    #[error("The virtual host did not start")]
    Qemu(#[from] QemuError),
    /// No agent in it.
    #[error("The virtual host did not come up; its console log {console} ends with:\n{tail}")]
    Boot {
        /// The log.
        console: PathBuf,
        /// Its last lines.
        tail: String,
        /// What failed.
        source: ChannelError,
    },
    /// The preparation failed.
    #[error("The preparation of the virtual host failed with exit code {code}:\n{output}")]
    Prepare {
        /// Its exit code.
        code: i32,
        /// What it wrote.
        output: String,
    },
    /// The state was not saved.
    #[error("The state of the virtual host could not be saved")]
    Save(#[source] MonitorError),
}

/// What states depend on besides image and agent, for their cache.
pub fn inputs() -> Vec<String> {
    let nowhere = Machine {
        emulator: Path::new(""),
        disk: Path::new(""),
        keep_writes: true,
        state: None,
        payload: Path::new(""),
        clock: Clock::Wall,
        run: Path::new(""),
        stays: false,
    };
    let flags = qemu::arguments(&nowhere).into_iter().map(|part| part.to_string_lossy().into_owned());
    [PREPARE.to_owned(), payload::SIZE.to_string()].into_iter().chain(flags).collect()
}

/// Boots a copy of the disk in `image`, prepares it, and leaves disk and state in `folder`. `phase` is told what is going on.
pub fn build(
    fixture: Fixture,
    image: &Path,
    agent: &Path,
    folder: &Path,
    phase: &dyn Fn(&str),
) -> Result<(), FixtureError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| FixtureError::File { path, source }
    };
    phase("copying its disk");
    for name in ["vmlinuz", "initrd.img", "root.img"] {
        copy(&image.join(name), &folder.join(name))?;
    }
    let payload = folder.join("payload.img");
    payload::build(&payload, Some(agent), &[])?;
    phase("booting Debian");
    let mut qemu = Qemu::start(&Machine {
        emulator: &image.join(EMULATOR),
        disk: folder,
        keep_writes: true,
        state: None,
        payload: &payload,
        clock: fixture.clock(),
        run: folder,
        stays: false,
    })?;
    let socket = qemu.agent()?;
    let channel = Channel::open(socket, BOOT).map_err(|source| boot(folder, source))?;
    phase("starting Docker, containerd and podman");
    let mut output = Vec::new();
    let mut errors = Vec::new();
    let start = Start { script: PREPARE.to_owned(), terminal: None, env: Vec::new() };
    let mut sinks = Sinks { stdout: &mut output, stderr: &mut errors };
    let code = channel.run(&start, None, &mut sinks, Some(BOOT)).map_err(|source| boot(folder, source))?;
    let output = [output, errors].concat();
    fs::write(folder.join("prepare.log"), &output).map_err(file(folder))?;
    if code != 0 {
        return Err(FixtureError::Prepare { code, output: String::from_utf8_lossy(&output).into_owned() });
    }
    phase("saving its state");
    qemu.save().map_err(FixtureError::Save)?;
    drop(channel);
    drop(qemu);
    fs::remove_file(&payload).map_err(file(&payload))
}

fn boot(folder: &Path, source: ChannelError) -> FixtureError {
    let console = folder.join(qemu::files::CONSOLE);
    FixtureError::Boot { tail: last_lines(&console, 15), console, source }
}

/// A copy that stays sparse, which `std::fs::copy` does not promise.
fn copy(from: &Path, to: &Path) -> Result<(), FixtureError> {
    let error = |source| FixtureError::File { path: from.to_owned(), source };
    let status = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).args([from, to]).status();
    match status.map_err(error)? {
        status if status.success() => Ok(()),
        status => Err(error(io::Error::other(format!("cp: {status}")))),
    }
}
