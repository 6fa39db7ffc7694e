//! The sandbox's control socket: what may be asked of a running VMM, and the client's side of it.
//!
//! One connection, one question. [`Question::Open`] turns the connection into a stream to the guest.

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use msb_agent::protocol::{
    self, Failure, FrameError, GuestLimits, ProcessId, ProcessInfo, Statistics, TerminalSize, VERSION,
};
use serde::{Deserialize, Serialize};

use crate::config::{BindMount, DiskConfig, ImageMount};

/// The socket's name in the sandbox's directory.
const SOCKET: &str = "control.sock";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Let the container's first process go.
    Start {
        /// It has hooks to run before, which may take any time.
        hooks: bool,
    },
    /// Send a process a signal, or with `all` to every process of the container; where it is not the container's first, to
    /// all that came of it.
    Signal {
        /// Which process.
        process: ProcessId,
        /// Its number.
        signal: i32,
        /// To more than that one.
        all: bool,
    },
    /// Give a process's terminal a size.
    Resize {
        /// Which process.
        process: ProcessId,
        /// The new size.
        size: TerminalSize,
    },
    /// The container's processes, as the guest has them.
    Processes,
    /// Hold the container to other limits.
    Update(Box<GuestLimits>),
    /// What the container uses.
    Statistics,
    /// Stop every process of the container, with all that it wrote on its disks.
    Freeze,
    /// Let them go on.
    Thaw,
    /// A stream to this vsock port of the guest.
    Open {
        /// The guest's port.
        port: u32,
    },
    /// Lend a further container of the pod its disks and volumes.
    Admit(Box<Admission>),
    /// Take back what a further container was lent. It is killed if it runs. No error if there is none.
    Dismiss {
        /// Its id.
        container: String,
    },
}

/// What a further container of a pod needs of the pod's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its id, to be dismissed by.
    pub container: String,
    /// Its disks, in order.
    pub disks: Vec<DiskConfig>,
    /// Images that it mounts, which are disks as well.
    pub images: Vec<ImageMount>,
    /// Directories and files of the host.
    pub binds: Vec<BindMount>,
}

/// What it was lent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Platform devices of its disks, in order.
    pub disks: Vec<String>,
    /// Of its images.
    pub images: Vec<String>,
    /// The number of each volume, and whether it is a directory.
    pub volumes: Vec<(u32, bool)>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done. After [`Question::Open`], the guest's bytes follow.
    Done,
    /// As the guest has them.
    Processes(Vec<ProcessInfo>),
    /// What is used.
    Statistics(Box<Statistics>),
    /// As asked for.
    Admitted(Admitted),
    /// The guest's agent says no.
    Guest(Failure),
    /// The VMM says no, in its words.
    Failed(String),
}

/// Why the sandbox could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: the sandbox has ended.
    #[error("container not running")]
    Gone(#[source] io::Error),
    /// It ended or went silent meanwhile.
    #[error("The sandbox does not answer")]
    Silent(#[source] FrameError),
    /// It was started by another version of this program.
    #[error(
        "This sandbox was started by another version of this program, which speaks {theirs} where this one speaks {VERSION}: use \
         that version until it has ended, or kill it, and start it again"
    )]
    Version {
        /// The sandbox's.
        theirs: u32,
    },
    /// The guest's agent says no.
    #[error(transparent)]
    Guest(Failure),
    /// The VMM says no.
    #[error("{reason}")]
    Failed {
        /// In its words.
        reason: String,
    },
    /// An answer to something else.
    #[error("The sandbox answers something else than was asked")]
    Unexpected,
}

impl ControlError {
    /// The other end was closed before there was an answer.
    fn is_hang_up(&self) -> bool {
        match self {
            Self::Silent(FrameError::Closed) => true,
            Self::Silent(FrameError::Stream(error)) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

/// A sandbox that can be asked.
#[derive(Debug, Clone)]
pub struct Control {
    dir: PathBuf,
}

impl Control {
    /// The sandbox whose directory is `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The sandbox's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Lets the container's first process go; returns when it has called `execve`. With `hooks` it runs some before, and
    /// may take any time.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn start(&self, hooks: bool) -> Result<(), ControlError> {
        self.order(&Question::Start { hooks })
    }

    /// Sends a signal to the first process, or to all.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn signal(&self, signal: i32, all: bool) -> Result<(), ControlError> {
        self.order(&Question::Signal { process: ProcessId::INIT, signal, all })
    }

    /// Sends a signal to one process.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn signal_process(&self, process: ProcessId, signal: i32) -> Result<(), ControlError> {
        self.order(&Question::Signal { process, signal, all: false })
    }

    /// Kills a process that was begun in the container, and all that came of it; when it returns they are gone,
    /// unless they would not end for a second or so.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn kill_family(&self, process: ProcessId) -> Result<(), ControlError> {
        self.order(&Question::Signal { process, signal: nix::libc::SIGKILL, all: true })
    }

    /// Gives a process's terminal a size.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn resize(&self, process: ProcessId, size: TerminalSize) -> Result<(), ControlError> {
        self.order(&Question::Resize { process, size })
    }

    /// Stops every process of the container. When it returns, all that they wrote is in the disks' files.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn freeze(&self) -> Result<(), ControlError> {
        self.order(&Question::Freeze)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn thaw(&self) -> Result<(), ControlError> {
        self.order(&Question::Thaw)
    }

    /// The container's processes, as the guest has them, the first one first.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn processes(&self) -> Result<Vec<ProcessInfo>, ControlError> {
        match self.ask(&Question::Processes)? {
            (Answer::Processes(processes), _) => Ok(processes),
            _ => Err(ControlError::Unexpected),
        }
    }

    /// Holds the container to other limits inside the guest.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn update(&self, limits: GuestLimits) -> Result<(), ControlError> {
        self.order(&Question::Update(Box::new(limits)))
    }

    /// What the container uses.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn statistics(&self) -> Result<Statistics, ControlError> {
        match self.ask(&Question::Statistics)? {
            (Answer::Statistics(found), _) => Ok(*found),
            _ => Err(ControlError::Unexpected),
        }
    }

    /// A stream to a vsock port of the guest.
    ///
    /// # Errors
    /// As an [`io::Error`], since it stands in for a connect.
    pub fn open(&self, port: u32) -> io::Result<UnixStream> {
        match self.ask(&Question::Open { port }) {
            Ok((_, stream)) => {
                stream.set_read_timeout(None)?;
                Ok(stream)
            }
            Err(ControlError::Gone(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Disks and volumes for a further container of the pod.
    ///
    /// # Errors
    /// [`ControlError`]; then it has none.
    pub fn admit(&self, admission: Admission) -> Result<Admitted, ControlError> {
        match self.ask(&Question::Admit(Box::new(admission)))? {
            (Answer::Admitted(admitted), _) => Ok(admitted),
            _ => Err(ControlError::Unexpected),
        }
    }

    /// Takes back what a further container of the pod was lent; when it returns, the guest has nothing of it. A pod that has
    /// ended has taken back everything.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn dismiss(&self, container: &str) -> Result<(), ControlError> {
        let question = Question::Dismiss { container: container.to_owned() };
        let mut done = self.order(&question);
        // When a pod's shim is gone, containerd removes all of its containers at once: one of them ends the machine while
        // another waits for its answer. Who asks then finds nobody.
        if done.as_ref().is_err_and(ControlError::is_hang_up) {
            done = self.order(&question);
        }
        match done {
            Err(ControlError::Gone(_)) => Ok(()),
            done => done,
        }
    }

    fn order(&self, question: &Question) -> Result<(), ControlError> {
        match self.ask(question)? {
            (Answer::Done, _) => Ok(()),
            _ => Err(ControlError::Unexpected),
        }
    }

    fn ask(&self, question: &Question) -> Result<(Answer, UnixStream), ControlError> {
        let mut stream =
            at(&self.dir, SOCKET, |path| UnixStream::connect(path)).map_err(ControlError::Gone)?;
        let patience = if *question == (Question::Start { hooks: true }) { None } else { Some(PATIENCE) };
        stream.set_read_timeout(patience).map_err(ControlError::Gone)?;
        protocol::write_first(&mut stream, question).map_err(ControlError::Silent)?;
        let answer = protocol::read_first(&mut stream).map_err(|error| match error {
            FrameError::Version { theirs } => ControlError::Version { theirs },
            error => ControlError::Silent(error),
        });
        match answer? {
            Answer::Guest(failure) => Err(ControlError::Guest(failure)),
            Answer::Failed(reason) => Err(ControlError::Failed { reason }),
            answer => Ok((answer, stream)),
        }
    }
}

/// The listening side, for the VMM.
///
/// # Errors
/// The kernel's.
pub(super) fn listen(dir: &Path) -> io::Result<UnixListener> {
    at(dir, SOCKET, |path| UnixListener::bind(path))
}

/// Docker's state directories are longer than the 108 bytes of a socket address: the socket is named through a
/// descriptor of its directory instead.
pub(super) fn at<T>(dir: &Path, name: &str, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let dir =
        File::options().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY).open(dir)?;
    call(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use msb_agent::protocol::Hello;

    use super::*;

    fn deep() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        (dir, deep)
    }

    #[test]
    fn a_long_directory_and_the_vmms_own_words() {
        let (_guard, dir) = deep();
        let listener = listen(&dir).unwrap();
        let vmm = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let question: Question = protocol::read_first(&mut stream).unwrap();
            protocol::write_first(&mut stream, &Answer::Failed("no".into())).unwrap();
            question
        });
        let error = Control::of(&dir).signal(15, true).unwrap_err();
        assert_eq!(error.to_string(), "no");
        assert_eq!(vmm.join().unwrap(), Question::Signal { process: ProcessId::INIT, signal: 15, all: true });
    }

    #[test]
    fn a_pod_that_ends_meanwhile_has_taken_back_everything() {
        let (_guard, dir) = deep();
        let listener = listen(&dir).unwrap();
        let vmm = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            // Its question is never read, as when the VMM is killed.
            drop(listener);
            drop(stream);
        });
        Control::of(&dir).dismiss("a").unwrap();
        vmm.join().unwrap();
    }

    #[test]
    fn a_sandbox_of_another_version_is_told_of() {
        let (_guard, dir) = deep();
        let listener = listen(&dir).unwrap();
        let vmm = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let Hello { version } = protocol::read(&mut stream).unwrap();
            assert_eq!(version, VERSION);
            protocol::write(&mut stream, &Hello { version: 99 }).unwrap();
        });
        let error = Control::of(&dir).statistics().unwrap_err();
        assert!(matches!(error, ControlError::Version { theirs: 99 }), "{error}");
        assert!(error.to_string().contains("start it again"));
        vmm.join().unwrap();
    }

    #[test]
    fn nobody_there_is_a_container_not_running() {
        let (_guard, dir) = deep();
        assert_eq!(Control::of(&dir).start(false).unwrap_err().to_string(), "container not running");
    }
}
