//! What every process of a task has: its streams' paths, its input's end, and how it ended.

use std::{
    fs::File,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use msb_runtime::state::Entry;
use tokio::sync::watch;

use super::lock;
use crate::stdio::Paths;

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As a shell tells it.
    pub code: u32,
    /// When that was noticed.
    pub at: SystemTime,
}

impl Exit {
    /// The exit code of a process that was lost.
    pub const LOST: u32 = 255;
    /// Of one that left nothing, as only SIGKILL makes it.
    const KILLED: u32 = 137;

    /// Now.
    pub fn now(code: u32) -> Self {
        Self { code, at: SystemTime::now() }
    }

    /// As the container of `entry` has kept it; one that has not was killed, or is now.
    pub fn kept(entry: Option<&Entry>) -> Self {
        let kept = entry.and_then(|entry| entry.exit().ok().flatten());
        kept.map_or_else(|| Self::now(Self::KILLED), |exit| Self { code: exit.code.into(), at: exit.at })
    }
}

/// A process's input.
#[derive(Debug, Default)]
struct Input {
    end: Option<File>,
    closed: bool,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// As they were given.
    pub paths: Paths,
    input: Mutex<Input>,
    exit: watch::Sender<Option<Exit>>,
    /// Held while it is started and while its end is told: one of them is told after the other.
    order: Mutex<()>,
}

impl Process {
    /// One that lives, or will.
    pub fn new(paths: Paths) -> Self {
        Self { paths, input: Mutex::default(), exit: watch::Sender::new(None), order: Mutex::default() }
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        loop {
            if let Some(exit) = *exit.borrow_and_update() {
                return exit;
            }
            if exit.changed().await.is_err() {
                // Not possible: the sender is borrowed.
                return Exit::now(Exit::LOST);
            }
        }
    }

    /// Keeps the end of its input, unless that was to be closed already.
    pub(super) fn keep_input(&self, end: Option<File>) {
        let mut input = lock(&self.input);
        if !input.closed {
            input.end = end;
        }
    }

    /// Its input ends when all others that write to it have ended. Clients do this as soon as they have written, which may
    /// be while the process is being started.
    pub fn close_input(&self) {
        *lock(&self.input) = Input { end: None, closed: true };
    }

    /// Nothing of it is told meanwhile.
    pub(super) fn in_order(&self) -> MutexGuard<'_, ()> {
        lock(&self.order)
    }

    /// It has ended.
    pub(super) fn set_exit(&self, exit: Exit) {
        self.close_input();
        self.exit.send_replace(Some(exit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_was_closed_before_it_was_there_is_not_kept() {
        let process = Process::new(Paths::default());
        let (reader, writer) = nix::unistd::pipe().unwrap();
        process.close_input();
        process.keep_input(Some(writer.into()));
        assert_eq!(std::io::read_to_string(File::from(reader)).unwrap(), "");
    }
}
