//! Why nothing could be done, by what its caller can do about it.

use std::error::Error;

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

impl Failure {
    /// Anything else.
    pub fn other(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(source.into())
    }

    /// All that is known of it, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}
