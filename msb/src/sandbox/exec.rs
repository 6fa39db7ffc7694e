//! A process that is begun in a sandbox that runs, and how it ended.

use std::path::PathBuf;

/// A process to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    /// The program and its arguments; never empty. A program without a slash is looked for in the PATH of the sandbox.
    pub args: Vec<String>,
    /// `KEY=VALUE`, over the sandbox's.
    pub env: Vec<String>,
    /// Absolute; none: the sandbox's.
    pub workdir: Option<PathBuf>,
    /// `user[:group]`, names or numbers; none: the sandbox's.
    pub user: Option<String>,
    /// Whether it gets a terminal: it reads what is written to the first descriptor, all that it writes comes out of the
    /// second, and the third is not used.
    pub terminal: bool,
}

impl Exec {
    /// Of a program and its arguments, and all else as the sandbox has it.
    #[must_use]
    pub fn of(args: &[&str]) -> Self {
        Self { args: args.iter().map(|&arg| arg.to_owned()).collect(), ..Self::default() }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this.
    Code(i32),
    /// This signal ended it; SIGKILL also where its sandbox ended.
    Signal(i32),
}

impl Exit {
    /// One number, as a shell tells it: 128 and the signal's for who was ended by one.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}
