//! Those who look at a sandbox's first process from afar ([`crate::sandbox::Attached`]).
//!
//! In: what the process writes. Out: the same to each client; what clients send, to the process. A client that does not read
//! holds the process up for a while, as a terminal would, and is then cut off.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use msb_runtime::process::terminal;

use super::spawn;
use crate::sandbox::{
    Stream,
    attach::{self, ALL, END, Sent, Told},
};

/// At the same time.
const MOST: usize = 32;
/// How long a client may not read, or not say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an accept that fails, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(Arc<Mutex<Vec<Client>>>);

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    outputs: bool,
}

/// What a client's words go to.
#[derive(Debug)]
pub(super) struct Target {
    /// The process's stdin; none: it has none, or it is somebody else's.
    pub(super) input: Option<File>,
    /// Its terminal.
    pub(super) terminal: Option<OwnedFd>,
}

impl Clients {
    /// Serves them from now on, until this process ends.
    pub(super) fn serve(&self, directory: &Path, target: Target) -> io::Result<()> {
        let listener = attach::at(directory, UnixListener::bind)?;
        let (clients, target) = (self.clone(), Arc::new(target));
        spawn("clients", move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    std::thread::sleep(PAUSE);
                    continue;
                };
                let (clients, target) = (clients.clone(), Arc::clone(&target));
                // One that can't be served is let go.
                let _ = spawn("client", move || drop(clients.one(stream, &target)));
            }
        })
    }

    fn one(&self, mut stream: UnixStream, target: &Target) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut wanted = [0];
        stream.read_exact(&mut wanted)?;
        let outputs = match wanted[0] {
            ALL => true,
            END => false,
            _ => return Ok(()),
        };
        stream.set_read_timeout(None)?;
        let client = Client { stream: stream.try_clone()?, outputs };
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= MOST {
                return Ok(());
            }
            all.push(client);
        }
        while let Some(sent) = Sent::read(&stream)? {
            match (sent, &target.input, &target.terminal) {
                (Sent::Input(bytes), Some(input), _) => {
                    let mut input = input;
                    input.write_all(&bytes)?;
                }
                (Sent::Size(size), _, Some(terminal)) => terminal::resize(terminal, size),
                (Sent::Input(_) | Sent::Size(_), ..) => {}
            }
        }
        Ok(())
    }

    /// To those who want to see it.
    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let told = Told::Output(stream, bytes.to_owned());
        all.retain(|client| !client.outputs || told.write(&client.stream).is_ok());
    }

    /// To all, the last that they hear.
    pub(super) fn end(&self, code: u8) {
        for client in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that is gone needs no word.
            let _ = Told::End(code).write(&client.stream);
        }
    }
}
