//! What a sandbox's first process wrote.

use std::time::SystemTime;

/// Where to begin in a sandbox's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first that is kept.
    Beginning,
    /// With so many of the last lines.
    Last(usize),
    /// After what [`Logs::next`] said.
    After(u64),
}

/// Some lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logs {
    /// In the order in which they were written; not more than about a thousand, or a megabyte.
    pub lines: Vec<Line>,
    /// What comes after them; the same as before where nothing was written.
    pub next: u64,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub at: SystemTime,
    /// To where.
    pub stream: Stream,
    /// Without its end; what is no UTF-8 is replaced.
    pub text: String,
    /// What [`Since::After`] takes to begin with the line after this one.
    pub next: u64,
}

/// What a process writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1, or a terminal.
    Stdout,
    /// Descriptor 2.
    Stderr,
}
