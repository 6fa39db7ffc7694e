//! What the agent knows of one process, from its birth to its last message.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use msb_agent::protocol::ProcessId;

use crate::container::made::Made;
use crate::serve::Channel;
use crate::stdio::streams::Streams;

/// A process.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub id: ProcessId,
    /// In the guest's first pid namespace; valid while the registry has it as alive.
    pub pid: i32,
    /// To join it and to fetch its terminal.
    pub pidfd: OwnedFd,
    /// Who made it and hears of its end.
    pub owner: Arc<Channel>,
    /// Its stdin, stdout, stderr or terminal.
    pub streams: Arc<Streams>,
    /// In which container.
    pub container: Arc<Made>,
    /// Whether it is that container's first.
    pub first: bool,
    /// To its helper, until it is released.
    pub control: Mutex<Option<File>>,
    known: Mutex<Known>,
    told: Condvar,
}

/// Whether the host has heard of a process: nothing may be said about one that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    NotYet,
    Yes,
    Never,
}

impl Record {
    /// Of a process that was just made.
    pub fn new(
        id: ProcessId,
        child: crate::sys::Child,
        owner: &Arc<Channel>,
        (container, first): (&Arc<Made>, bool),
        streams: Streams,
        control: File,
    ) -> Self {
        Self {
            id,
            pid: child.pid,
            pidfd: child.pidfd,
            owner: Arc::clone(owner),
            container: Arc::clone(container),
            first,
            streams: Arc::new(streams),
            control: Mutex::new(Some(control)),
            known: Mutex::new(Known::NotYet),
            told: Condvar::new(),
        }
    }

    /// The host has its name now (or, with `false`, never will): its end may be told.
    pub fn announce(&self, made: bool) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            if made { Known::Yes } else { Known::Never };
        self.told.notify_all();
    }

    /// Waits until [`Self::announce`]; what it said.
    pub fn is_known(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self
            .told
            .wait_while(known, |known| *known == Known::NotYet)
            .unwrap_or_else(PoisonError::into_inner);
        *known == Known::Yes
    }
}
