//! Why a request fails, with a status code of gRPC: containerd and its clients tell cases apart by it.

use std::fmt::Display;

use containerd_shim_protos::ttrpc::{self, Code, get_status};
use msb_runtime::{
    sandbox::control::ControlError,
    state::StateError,
    verbs::{VerbError, words},
};

use crate::{mounts::MountError, stdio::StdioError};

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was done to the container.
    #[error(transparent)]
    Verb(#[from] VerbError),
    /// A container or a process was not made or started: said as runc's shim does, which Docker's users know.
    #[error("OCI runtime {verb} failed")]
    Oci {
        /// `create`, `start`, `exec`.
        verb: &'static str,
        /// The cause.
        #[source]
        source: VerbError,
    },
    /// Its root file system.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Its streams.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// No process of this task has this id.
    #[error("{what} {id} not found")]
    NotFound {
        /// Task or process.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// The id is taken.
    #[error("{what} {id} already exists")]
    Exists {
        /// Task or process.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// The host has no thread left that could watch it.
    #[error("No thread can be started: raise the limits of processes (pids.max, ulimit -u) or end others")]
    Thread(#[source] std::io::Error),
    /// Not in this state.
    #[error("{0}")]
    State(&'static str),
    /// The process has ended.
    #[error("process already finished")]
    Finished,
    /// What was given can't be understood.
    #[error("{0}")]
    Wrong(String),
    /// Not to be had in a machine.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// A fault of the shim's own.
    #[error("{0}")]
    Broken(String),
}

impl Failure {
    /// Of something that has to be understood first.
    pub fn wrong(what: &str, why: impl Display) -> Self {
        Self::Wrong(format!("{what}: {why}"))
    }

    /// Of something that was to be made or started.
    pub fn oci(verb: &'static str) -> impl FnOnce(VerbError) -> Self {
        move |source| Self::Oci { verb, source }
    }

    fn code(&self) -> Code {
        match self {
            Self::Verb(source) | Self::Oci { source, .. } => of_verb(source),
            Self::NotFound { .. } | Self::Finished => Code::NOT_FOUND,
            Self::Exists { .. } => Code::ALREADY_EXISTS,
            Self::State(_) => Code::FAILED_PRECONDITION,
            Self::Wrong(_) | Self::Stdio(StdioError::Scheme { .. }) => Code::INVALID_ARGUMENT,
            Self::Unimplemented(_) => Code::UNIMPLEMENTED,
            Self::Mount(_) | Self::Stdio(_) | Self::Thread(_) | Self::Broken(_) => Code::UNKNOWN,
        }
    }
}

fn of_verb(error: &VerbError) -> Code {
    match error {
        VerbError::State(StateError::DoesNotExist) | VerbError::Control(ControlError::Gone(_)) => {
            Code::NOT_FOUND
        }
        VerbError::State(StateError::AlreadyExists) => Code::ALREADY_EXISTS,
        VerbError::State(
            StateError::NotRunning
            | StateError::NotPaused
            | StateError::NotStopped { .. }
            | StateError::NotCreated { .. }
            | StateError::Incomplete { .. },
        )
        | VerbError::ExecStopped
        | VerbError::ExecPaused => Code::FAILED_PRECONDITION,
        VerbError::Id(_) | VerbError::Spec(_) | VerbError::Config(_) => Code::INVALID_ARGUMENT,
        _ => Code::UNKNOWN,
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Verb(error.into())
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::Verb(error.into())
    }
}

impl From<Failure> for ttrpc::Error {
    fn from(failure: Failure) -> Self {
        Self::RpcStatus(get_status(failure.code(), words::chain(&failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_can_tell_cases_apart() {
        for (failure, code) in [
            (StateError::DoesNotExist.into(), Code::NOT_FOUND),
            (StateError::AlreadyExists.into(), Code::ALREADY_EXISTS),
            (StateError::NotPaused.into(), Code::FAILED_PRECONDITION),
            (Failure::Finished, Code::NOT_FOUND),
            (Failure::Unimplemented("no"), Code::UNIMPLEMENTED),
            (Failure::wrong("spec", "no JSON"), Code::INVALID_ARGUMENT),
        ] {
            let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(failure) else { panic!("no status") };
            assert_eq!(status.code(), code, "{status:?}");
            assert!(!status.message.is_empty());
        }
    }
}
