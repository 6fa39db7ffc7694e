//! Whether this host lets a process between walls: one is put there, and looked at from outside.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, fork, pipe},
};

use crate::{
    host::walls::{self, Seen, WallError},
    machine::{Filters, Kind, Verdict},
};

/// Why a VMM can't be confined here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No process to try it with.
    #[error("No process can be started to try it with")]
    Try(#[source] io::Error),
    /// It said why.
    #[error("{0}")]
    Refused(String),
}

/// What is seen of a process between walls. The calling process must have a single thread.
///
/// # Errors
/// [`ProbeError`].
pub fn probe() -> Result<Seen, ProbeError> {
    let filters = Filters::new(Verdict::Kill);
    let (reader, writer) = pipe().map_err(|errno| ProbeError::Try(errno.into()))?;
    let forked = walls::apart(|| {
        #[allow(unsafe_code, reason = "fork, in a process with one thread")]
        // SAFETY: as in `Cell::enter`.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => inside(writer.as_fd(), &filters),
        }
    });
    let child = forked.map_err(ProbeError::Try)?;
    drop(writer);
    let mut said = String::new();
    let mut reader = File::from(reader);
    let mut first = [0];
    let heard = reader.read_exact(&mut first);
    let seen = match (&heard, first) {
        (Ok(()), [FINE]) => Seen::of(child.as_raw().unsigned_abs()).map_err(ProbeError::Try),
        _ => {
            let _ = reader.read_to_string(&mut said);
            Err(ProbeError::Refused(said))
        }
    };
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    seen
}

/// Of its threads.
const STACK: usize = 128 << 10;

/// What it says first when it is where it should be.
const FINE: u8 = b'+';

fn inside(writer: std::os::fd::BorrowedFd, filters: &Filters) -> ! {
    let walled = walls::close_all_but(&[writer]).and_then(|()| walls::enter(0));
    let held =
        walled.map_err(|error: WallError| super::super::chain(&error)).and_then(|()| hold_all(filters));
    let say = |words: &[u8]| {
        // Who hears nothing says so.
        let _ = writer.try_clone_to_owned().map(File::from).and_then(|mut out| out.write_all(words));
    };
    if let Err(reason) = held {
        say(format!("-{reason}").as_bytes());
        // Who reads waits for the end.
        super::inside::end();
    }
    say(&[FINE]);
    stay()
}

/// A thread of each kind, as a machine has them; the calling one takes orders.
fn hold_all(filters: &Filters) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| super::super::chain(error);
    for kind in [Kind::Vcpu, Kind::Device] {
        let (tell, told) = mpsc::channel();
        let filters = filters.clone();
        let hold = move || {
            let _ = tell.send(filters.hold(kind));
            stay()
        };
        thread::Builder::new().stack_size(STACK).spawn(hold).map_err(|error| said(&error))?;
        told.recv().map_err(|error| said(&error))?.map_err(|error| said(&error))?;
    }
    filters.hold(Kind::Main).map_err(|error| said(&error))
}

fn stay() -> ! {
    loop {
        // Until it is killed; a pause(2) is on no list.
        thread::sleep(Duration::from_secs(1));
    }
}
