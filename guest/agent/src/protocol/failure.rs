//! Why the agent could not do what was asked: typed, so that the host can tell it in the words that Docker matches on.

use serde::{Deserialize, Serialize};

/// A request's failure. The texts are for people; the host decides by the variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The command can't be run: Docker makes 126 or 127 of it.
    #[error("exec: {command:?}: {problem}")]
    Command {
        /// As given in `args[0]`.
        command: String,
        /// What is wrong with it.
        problem: CommandProblem,
    },
    /// A step of the set-up failed.
    #[error("{step}: {reason}")]
    Setup {
        /// What was being done, in a few words and with the path concerned.
        step: String,
        /// The error's own text.
        reason: String,
    },
    /// The request does not fit what came before it (a second create, an exec before the start, …).
    #[error("the container is not in a state for this: {reason}")]
    WrongState {
        /// Which rule.
        reason: String,
    },
    /// The process has ended or never was.
    #[error("no such process")]
    NoSuchProcess,
}

/// What is wrong with a command, in runc's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CommandProblem {
    /// No directory of `PATH` has it.
    #[error("executable file not found in $PATH")]
    NotInPath,
    /// A path was given and nothing is there.
    #[error("no such file or directory")]
    NotFound,
    /// It is there and may not be executed.
    #[error("permission denied")]
    PermissionDenied,
    /// It is a directory.
    #[error("is a directory")]
    IsDirectory,
    /// The kernel refuses the file's format.
    #[error("exec format error")]
    Format,
}
