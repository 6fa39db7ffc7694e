//! Plain lines about work that takes a while, for people and for CI logs alike. All go to standard error: standard
//! output belongs to the command that is run.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Work shorter than this says nothing.
const QUIET: Duration = Duration::from_secs(2);
/// How often work in progress says that it is.
const AGAIN: Duration = Duration::from_secs(15);

/// A piece of work with a name. Dropping it ends its lines.
#[derive(Debug)]
pub struct Step {
    phases: Option<Sender<String>>,
    printer: Option<JoinHandle<()>>,
}

impl Step {
    /// Begins; a line appears after [`QUIET`].
    pub fn begin(name: &str) -> Self {
        let (phases, received) = mpsc::channel::<String>();
        let name = name.to_owned();
        let printer = thread::spawn(move || {
            let started = Instant::now();
            let mut phase = String::new();
            let mut spoken = false;
            loop {
                match received.recv_timeout(if spoken { AGAIN } else { QUIET }) {
                    Ok(next) => {
                        phase = format!(": {next}");
                        if !spoken {
                            continue;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                spoken = true;
                eprintln!("[{:4} s] {name}{phase}", started.elapsed().as_secs());
            }
            if spoken {
                eprintln!("[{:4} s] {name}: done", started.elapsed().as_secs());
            }
        });
        Self { phases: Some(phases), printer: Some(printer) }
    }

    /// Says what is going on now.
    pub fn phase(&self, what: &str) {
        if let Some(phases) = &self.phases {
            // The printer lives as long as the sender does.
            let _ = phases.send(what.to_owned());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.phases = None;
        if let Some(printer) = self.printer.take() {
            // It only prints; a panic there says so itself.
            let _ = printer.join();
        }
    }
}
