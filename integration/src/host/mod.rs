//! The virtual KVM host: a Debian 13 machine in QEMU whose emulated processor has AMD's SVM, so that KVM in it is whole.
//!
//! Enters: a [`Setup`] (where its saved states are) and the files under test. Leaves: a running, clean [`VirtualHost`]
//! in which commands run; dropping it ends it and throws away all that was written there.
//!
//! `image` builds its disk, `fixture` boots it once and saves its state, `qemu` and `monitor` run it, `payload` brings
//! files in, and commands go over `channel`, in frames of `protocol`, to the `agent` inside; `reach` has connections go there too.

pub mod agent;
pub mod base;
pub mod channel;
pub mod command;
pub mod debian;
pub mod fixture;
pub mod image;
mod keep;
pub mod monitor;
pub mod payload;
pub mod protocol;
pub mod qemu;
mod reach;
mod sources;
mod still;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use channel::{Channel, ChannelError};
use command::HostCommand;
pub use fixture::Fixture;
pub use payload::Item;
use payload::PayloadError;
use qemu::{Machine, Qemu, QemuError};

/// Run in a host each time it has come up.
const PLACE: &str = include_str!("files/place.sh");

/// Puts what the second disk has into its places, and the clock to what it is here.
pub(crate) fn place(channel: &Channel) -> Result<(), HostError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let placed = HostCommand::new(channel, PLACE).env("MSB_NOW", &now.to_string()).run()?;
    if placed.code != 0 {
        let output = String::from_utf8_lossy(&[placed.stdout, placed.stderr].concat()).into_owned();
        return Err(HostError::Place { output });
    }
    Ok(())
}

/// The last lines of a log, at most so many; what can't be read has none.
pub(crate) fn last_lines(log: &Path, most: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(most).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Where the parts of a virtual host are; `dev::products` makes them.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The folder that [`fixture::build`] filled.
    pub state: PathBuf,
    /// The folder of QEMU that [`image::build`] filled.
    pub emulator: PathBuf,
    /// Where to keep what a failed test leaves.
    pub failures: PathBuf,
}

/// Why there is no virtual host, or a command did not run in it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file of ours.
    #[error("{path} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The payload disk.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The machine.
    #[error("The virtual host did not start")]
    Qemu(#[from] QemuError),
    /// The commands.
    #[error("A command could not be run in the virtual host")]
    Channel(#[from] ChannelError),
    /// This machine gives no address for a port of the host.
    #[error("A port of the virtual host can't be reached")]
    Reach(#[source] io::Error),
    /// The files under test could not be put into place.
    #[error("The files under test could not be put into the virtual host:\n{output}")]
    Place {
        /// What the script said.
        output: String,
    },
}

impl HostError {
    /// Whether a command was still running when its time was over.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Channel(ChannelError::Timeout { .. }))
    }
}

/// Where a host's own files are.
#[derive(Debug)]
enum Folder {
    /// Gone with the host.
    Temporary(TempDir),
    /// Somebody else's to remove.
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }
}

/// A running virtual host. Dropping it ends it; while a test panics, its logs are kept first.
#[derive(Debug)]
pub struct VirtualHost {
    // The order is that of dropping: the channel, the machine, its files.
    channel: Channel,
    qemu: Qemu,
    run: Folder,
    setup: Setup,
    name: Option<String>,
}

impl VirtualHost {
    /// Restores a clean host and puts `payload` into it. A second or so.
    pub fn start(fixture: Fixture, setup: &Setup, payload: &[Item]) -> Result<Self, HostError> {
        let run = tempfile::Builder::new().prefix("msb-host-").tempdir();
        let run = run.map_err(|source| HostError::File { path: std::env::temp_dir(), source })?;
        Self::start_in(Folder::Temporary(run), fixture, setup, payload)
    }

    /// The same, with its files in `run`, an empty folder that stays: for a host that outlives this process.
    pub fn start_to_stay(run: &Path, setup: &Setup, payload: &[Item]) -> Result<u32, HostError> {
        let host = Self::start_in(Folder::Kept(run.to_owned()), Fixture::Plain, setup, payload)?;
        let pid = host.pid();
        std::mem::forget(host);
        Ok(pid)
    }

    fn start_in(run: Folder, fixture: Fixture, setup: &Setup, payload: &[Item]) -> Result<Self, HostError> {
        let disk = run.path().join("payload.img");
        payload::build(&disk, None, payload)?;
        let mut qemu = Qemu::start(&Machine {
            emulator: &setup.emulator,
            disk: &setup.state,
            keep_writes: false,
            state: Some(&setup.state.join("state")),
            payload: &disk,
            clock: fixture.clock(),
            stays: matches!(run, Folder::Kept(_)),
            run: run.path(),
        })?;
        // A second or so, but where another host and a build have the machine, and its state is not in memory yet.
        let channel = Channel::open(qemu.agent()?, Duration::from_secs(240))?;
        place(&channel)?;
        Ok(Self { channel, qemu, run, setup: setup.clone(), name: None })
    }

    /// A shell command in the host, to be run.
    pub fn sh(&self, script: &str) -> HostCommand<'_> {
        HostCommand::new(&self.channel, script)
    }

    /// The command channel itself.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Its folder on this machine: the console log, QEMU's own log.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.qemu.pid()
    }

    /// Names the host for [`VirtualHost::keep`]; without a name, the running thread's (a test's) is taken.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Copies the host's console, journal, and all logs of guests and runtime to a folder that stays, and names it.
    pub fn keep(&self) -> Result<PathBuf, HostError> {
        let thread = std::thread::current();
        let name = self.name.as_deref().or(thread.name()).unwrap_or("host");
        keep::keep(self, &self.setup.failures, name)
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint!("{}", keep::glance(self));
            match self.keep() {
                Ok(folder) => eprintln!("The virtual host's logs are kept in {}", folder.display()),
                Err(error) => eprintln!("The virtual host's logs could not be kept: {error}"),
            }
        }
    }
}
