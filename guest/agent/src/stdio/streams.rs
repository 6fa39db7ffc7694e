//! The streams of one process, from the moment it is made until all its output is sent.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use msb_agent::protocol::{Failure, Stream};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::relay;
use crate::{log, transport};

/// Stacks of relay threads; their buffers are on the heap.
const STACK: usize = 48 << 10;

/// The agent's ends, each until the host's stream for it comes.
#[derive(Debug, Default)]
pub struct Ends {
    /// Written to.
    pub stdin: Option<OwnedFd>,
    /// Read from.
    pub stdout: Option<OwnedFd>,
    /// Read from.
    pub stderr: Option<OwnedFd>,
    /// Both.
    pub terminal: Option<OwnedFd>,
}

/// One process's streams.
#[derive(Debug)]
pub struct Streams {
    state: Mutex<State>,
    changed: Condvar,
    /// Readable from the process's end on.
    ended: EventFd,
}

#[derive(Debug, Default)]
struct State {
    ends: Ends,
    /// Kept beside the relays, for its size.
    master: Option<OwnedFd>,
    sending: usize,
    over: bool,
}

impl Streams {
    /// Of a process whose pipes or terminal are `ends`.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn new(ends: Ends) -> Result<Self, Errno> {
        let state = State { ends, ..State::default() };
        let ended = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { state: Mutex::new(state), changed: Condvar::new(), ended })
    }

    /// The terminal's agent side, once the helper has made it.
    ///
    /// # Errors
    /// No descriptor was to be had.
    pub fn set_terminal(&self, master: OwnedFd) -> std::io::Result<()> {
        let mut state = self.lock();
        state.ends.terminal = Some(master.try_clone()?);
        state.master = Some(master);
        Ok(())
    }

    /// A copy of the terminal's agent side.
    pub fn terminal(&self) -> Option<OwnedFd> {
        self.lock().master.as_ref().and_then(|master| master.try_clone().ok())
    }

    /// Copies between the host's `connection` and the process until one of them ends. Blocks: the caller's thread is
    /// the relay. A stream that the process does not have, or that came already, is closed.
    pub fn attach(self: &Arc<Self>, stream: Stream, connection: &File) {
        let end = {
            let mut state = self.lock();
            let end = match stream {
                Stream::Stdin => state.ends.stdin.take(),
                Stream::Stdout => state.ends.stdout.take(),
                Stream::Stderr => state.ends.stderr.take(),
                Stream::Terminal => state.ends.terminal.take(),
            };
            if end.is_some() && stream != Stream::Stdin {
                state.sending += 1;
            }
            end
        };
        self.changed.notify_all();
        let Some(end) = end else { return };
        match stream {
            Stream::Stdin => relay::input(connection, &end, self.ended.as_fd()),
            Stream::Stdout | Stream::Stderr => relay::output(&end, connection, self.ended.as_fd()),
            Stream::Terminal => {
                self.feed_terminal(connection, &end);
                relay::output(&end, connection, self.ended.as_fd());
            }
        }
        // The process's side first: a writer without a reader must learn so.
        drop(end);
        if stream == Stream::Stdin {
            transport::hang_up(connection);
        } else {
            transport::finish(connection);
            self.lock().sending -= 1;
            self.changed.notify_all();
        }
    }

    /// The terminal's other direction, on a thread of its own.
    fn feed_terminal(self: &Arc<Self>, connection: &File, end: &OwnedFd) {
        let spawned = connection.try_clone().and_then(|connection| {
            let end = end.try_clone()?;
            let streams = Arc::clone(self);
            thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || relay::input(&connection, &end, streams.ended.as_fd()))
        });
        if let Err(error) = spawned {
            log::failure("relay a terminal's input", &error);
        }
    }

    /// Waits until the host has opened every stream.
    ///
    /// # Errors
    /// [`Failure::WrongState`] when it takes longer than `patience`.
    pub fn await_all(&self, patience: Duration) -> Result<(), Failure> {
        let missing = |state: &mut State| {
            let ends = &state.ends;
            !state.over
                && (ends.stdin.is_some()
                    || ends.stdout.is_some()
                    || ends.stderr.is_some()
                    || ends.terminal.is_some())
        };
        let (_state, waited) = self
            .changed
            .wait_timeout_while(self.lock(), patience, missing)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Failure::WrongState { reason: "not all of its streams were opened".into() });
        }
        Ok(())
    }

    /// The process has ended: comes back when everything it wrote is sent.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.over = true;
        state.ends = Ends::default();
        state.master = None;
        // The counter never overflows: it is written once.
        let _ = self.ended.write(1);
        self.changed.notify_all();
        let _state =
            self.changed.wait_while(state, |state| state.sending > 0).unwrap_or_else(PoisonError::into_inner);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
