//! Why nothing could be done, by what its caller can do about it.

use std::error::Error;

use msb_agent::protocol::Failure as GuestFailure;
use msb_runtime::{
    process::{agent::AgentError, attach::AttachError},
    sandbox::{child::ChildError, control::ControlError},
    state::StateError,
    verbs::{VerbError, words},
};

use super::Key;
use crate::name::Name;

/// What kept a sandbox from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody made it.
    #[error("There is no sandbox {0}")]
    NoSandbox(Key),
    /// No sandbox was ever made in it.
    #[error("There is no namespace {0}")]
    NoNamespace(Name),
    /// One of this name is there.
    #[error("There is a sandbox {0} already")]
    Exists(Key),
    /// It does not run.
    #[error("Sandbox {0} is not running: start it first")]
    NotRunning(Key),
    /// It runs, and what is asked for can't be done meanwhile.
    #[error("Sandbox {0} is running: stop it first")]
    Runs(Key),
    /// It runs where its machine can't be reached from.
    #[error("Sandbox {0} runs in another container of this home: use it and stop it there")]
    Elsewhere(Key),
    /// Nobody made it.
    #[error("There is no volume {0}")]
    NoVolume(Name),
    /// One of this name is there.
    #[error("There is a volume {0} already")]
    VolumeExists(Name),
    /// Sandboxes have it.
    #[error("The volume {0} is used by {users}: remove those first", users = list(.1))]
    VolumeUsed(Name, Vec<Key>),
    /// It can't be as it is asked for.
    #[error("{0}")]
    Bad(String),
    /// The sandbox has no such program, or none that may be run.
    #[error("The sandbox can't run {program}: {reason}")]
    NoProgram {
        /// As it was asked for.
        program: String,
        /// What the sandbox's kernel said.
        reason: String,
    },
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

fn list(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Failure {
    /// Anything else.
    pub fn other(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(source.into())
    }

    /// All that is known of it, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        words::chain(self)
    }
}

impl From<VerbError> for Failure {
    /// What the guest says of a program stays typed.
    fn from(error: VerbError) -> Self {
        match error {
            VerbError::Child(ChildError::Guest(GuestFailure::Command { command, problem }))
            | VerbError::Control(ControlError::Guest(GuestFailure::Command { command, problem }))
            | VerbError::Attach(AttachError::Agent(AgentError::Failed(GuestFailure::Command {
                command,
                problem,
            }))) => Self::NoProgram { program: command, reason: problem.to_string() },
            VerbError::Config(error) => Self::Bad(words::chain(&error)),
            other => Self::other(other),
        }
    }
}

/// The same, where the sandbox may have ended.
pub(super) fn not_running(error: VerbError, key: &Key) -> Failure {
    match error {
        VerbError::ExecStopped | VerbError::State(StateError::DoesNotExist | StateError::NotRunning) => {
            Failure::NotRunning(key.clone())
        }
        other => other.into(),
    }
}
