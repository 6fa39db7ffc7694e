//! Processes that outlive the command that starts them: the VMM, a `member` for each further container of a pod, and an
//! `attach` for each exec.
//!
//! Both are this same program with a hidden verb. They are given one socket, over which first their
//! configuration comes and then the two sides take turns until the child stands on its own feet. The caller's
//! subreaper (containerd's shim, conmon) inherits the child when the command has ended.

use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use msb_agent::protocol::{self, Failure, FrameError, ProcessId};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::machine::monotonic_ns;

/// Why a child could not be started or lost its way.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It can't be started.
    #[error("The {verb} process can't be started")]
    Spawn {
        /// Its hidden verb.
        verb: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It ended or went silent before it was ready.
    #[error("The {verb} process ended before it was ready")]
    Lost {
        /// Its hidden verb.
        verb: &'static str,
        /// The cause.
        #[source]
        source: FrameError,
    },
    /// It could not do what it was told; the text is its own chain of causes.
    #[error("{reason}")]
    Refused {
        /// In the child's words.
        reason: String,
    },
    /// The guest's agent could not do it.
    #[error(transparent)]
    Guest(Failure),
    /// A message of the wrong kind: not this program's child.
    #[error("The {verb} process says something unexpected")]
    Unexpected {
        /// Its hidden verb.
        verb: &'static str,
    },
}

/// When a machine was how far: `CLOCK_MONOTONIC` in nanoseconds. A child without a machine has only the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moments {
    /// The child's own start; its parent fills it in.
    pub spawned_ns: u64,
    /// The guest's first instruction.
    pub guest_entered_ns: u64,
    /// The agent's hello.
    pub agent_hello_ns: u64,
    /// The container, up to but without its first process's `execve`.
    pub container_created_ns: u64,
}

/// What a child tells its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// It has taken its place (namespace, session) and waits to be told to go on.
    Ready,
    /// The guest's process exists, up to but without its `execve`.
    Created(Moments),
    /// The same of a pod's further container, whose first process the guest calls so.
    Member(ProcessId),
    /// The guest's process runs.
    Running,
    /// The guest's agent says no.
    Guest(Failure),
    /// Something else failed: the whole chain of causes.
    Failed(String),
}

/// This program with a hidden verb, and the descriptor of its socket.
fn command(verb: &str, socket: RawFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // What `docker top` and `ps` show.
    command.arg0("msb-runtime").arg(verb).arg(socket.to_string());
    // Its caller's settings of glibc are not meant for it: some make calls that no wall lets through.
    command.env_remove("GLIBC_TUNABLES");
    command
}

/// The parent's side: a child that has not yet been let go. Dropped without [`Self::release`], it is killed.
#[derive(Debug)]
pub struct Starting {
    verb: &'static str,
    child: Option<Child>,
    socket: UnixStream,
    spawned_ns: u64,
}

impl Starting {
    /// Starts `program` (this one) with a hidden verb and gives it `config`. The three descriptors become its
    /// stdio.
    ///
    /// # Errors
    /// [`ChildError::Spawn`], or [`ChildError::Lost`] when it dies at once.
    pub fn spawn<C: Serialize>(
        verb: &'static str,
        config: &C,
        stdio: [Stdio; 3],
    ) -> Result<Self, ChildError> {
        let fail = |source| ChildError::Spawn { verb, source };
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        // The one descriptor that shall survive the execve.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| fail(errno.into()))?;
        let [stdin, stdout, stderr] = stdio;
        let spawned_ns = monotonic_ns();
        let child = command(verb, theirs.as_raw_fd())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(fail)?;
        let mut starting = Self { verb, child: Some(child), socket: ours, spawned_ns };
        protocol::write(&mut starting.socket, config).map_err(|source| ChildError::Lost { verb, source })?;
        Ok(starting)
    }

    /// The child's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Awaits one particular word.
    ///
    /// # Errors
    /// What the child says instead, or [`ChildError::Lost`].
    pub fn expect(&mut self, expected: &Word) -> Result<(), ChildError> {
        self.hear_of(|word| (word == *expected).then_some(()).ok_or(word))
    }

    /// Awaits [`Word::Created`].
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub fn created(&mut self) -> Result<Moments, ChildError> {
        let spawned_ns = self.spawned_ns;
        self.hear_of(|word| match word {
            Word::Created(moments) => Ok(Moments { spawned_ns, ..moments }),
            other => Err(other),
        })
    }

    /// Awaits [`Word::Member`].
    ///
    /// # Errors
    /// As [`Self::expect`].
    pub fn member(&mut self) -> Result<ProcessId, ChildError> {
        self.hear_of(|word| match word {
            Word::Member(process) => Ok(process),
            other => Err(other),
        })
    }

    /// What `wanted` takes of the next word, which it gives back if it is another.
    fn hear_of<T>(&mut self, wanted: impl FnOnce(Word) -> Result<T, Word>) -> Result<T, ChildError> {
        wanted(self.hear()?).map_err(|other| match other {
            Word::Guest(failure) => ChildError::Guest(failure),
            Word::Failed(reason) => ChildError::Refused { reason },
            Word::Ready | Word::Created(_) | Word::Member(_) | Word::Running => {
                ChildError::Unexpected { verb: self.verb }
            }
        })
    }

    fn hear(&mut self) -> Result<Word, ChildError> {
        let verb = self.verb;
        protocol::read(&mut self.socket).map_err(|source| ChildError::Lost { verb, source })
    }

    /// Tells the child to go on.
    ///
    /// # Errors
    /// [`ChildError::Lost`].
    pub fn go(&mut self) -> Result<(), ChildError> {
        let verb = self.verb;
        protocol::write(&mut self.socket, &Go).map_err(|source| ChildError::Lost { verb, source })
    }

    /// Awaits that it has become another program, which ends the connection.
    ///
    /// # Errors
    /// What it says instead.
    pub fn replaced(mut self) -> Result<Child, ChildError> {
        let verb = self.verb;
        match self.hear() {
            Err(ChildError::Lost { source: FrameError::Closed, .. }) => {
                self.child.take().ok_or(ChildError::Unexpected { verb })
            }
            Ok(Word::Failed(reason)) => Err(ChildError::Refused { reason }),
            Ok(_) => Err(ChildError::Unexpected { verb }),
            Err(error) => Err(error),
        }
    }

    /// Lets it live on its own.
    #[must_use]
    pub fn release(mut self) -> Released {
        Released(self.child.take())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; either way nothing must be left behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A child on its own feet.
#[derive(Debug)]
pub struct Released(Option<Child>);

impl Released {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Waits for its end, as a foreground `run` does; its exit code, as a shell tells it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(mut self) -> io::Result<u8> {
        match &mut self.0 {
            Some(child) => Ok(code(child.wait()?)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// The parent's only word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Go;

/// The child's side.
#[derive(Debug)]
pub struct Parent(UnixStream);

impl Parent {
    /// Takes the descriptor that the hidden verb was given as its argument, and the configuration from it.
    ///
    /// # Errors
    /// When the verb was called by hand: there is no such descriptor, or no configuration comes.
    #[allow(unsafe_code, reason = "a descriptor number from the command line becomes an owner")]
    pub fn take<C: DeserializeOwned>(fd: RawFd) -> Result<(Self, C), FrameError> {
        let stream = |errno: Errno| FrameError::Stream(errno.into());
        if fd < 3 {
            return Err(stream(Errno::EBADF));
        }
        // SAFETY: `fd` is above stdio and was handed to this process by its parent for this one use; nothing else
        // of this process knows the number. That it is open at all is checked by the fcntl below.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Err(errno) = fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            // Not ours to close, as it isn't there.
            let _ = owned.into_raw_fd();
            return Err(stream(errno));
        }
        let mut socket = UnixStream::from(owned);
        let config = protocol::read(&mut socket)?;
        Ok((Self(socket), config))
    }

    /// Says a word. A parent that has gone is no longer interested, and the child goes on or ends by itself.
    pub fn say(&mut self, word: &Word) {
        let _ = protocol::write(&mut self.0, word);
    }

    /// Waits until told to go on.
    ///
    /// # Errors
    /// The parent is gone: nobody wants this child any more.
    pub fn await_go(&mut self) -> Result<(), FrameError> {
        protocol::read::<Go>(&mut self.0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_end_is_the_containers() {
        for (raw, expected) in [(0, 0), (7 << 8, 7), (9, 137)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), expected);
        }
    }

    #[test]
    fn a_callers_settings_of_glibc_stay_with_the_caller() {
        let command = command("vmm", 3);
        let left_out: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        assert_eq!(left_out, [("GLIBC_TUNABLES".as_ref(), None)]);
    }
}
