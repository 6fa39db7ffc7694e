//! Those who look at a sandbox's first process from afar ([`crate::sandbox::Attached`]).
//!
//! In: what the process writes. Out: the same to each client; what clients send, to the process. A client that does not read
//! holds the process up for a while, as a terminal would, and is then cut off. One that pauses the sandbox, and is killed before it
//! resumes it, does not leave it so.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use msb_runtime::{process::terminal, state::Entry};

use super::spawn;
use crate::sandbox::{
    Stream,
    attach::{self, ALL, END, PAUSES, Sent, Told},
    running,
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
    stream: Arc<UnixStream>,
    outputs: bool,
}

/// What a client's words go to.
#[derive(Debug)]
pub(super) struct Target {
    /// The process's stdin; none: it has none, or it is somebody else's.
    pub(super) input: Option<File>,
    /// Its terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// Its container, for who pauses it.
    pub(super) entry: Option<Entry>,
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
            END | PAUSES => false,
            _ => return Ok(()),
        };
        stream.set_read_timeout(None)?;
        let stream = Arc::new(stream);
        {
            let mut all = self.all();
            if all.len() >= MOST {
                return Ok(());
            }
            all.push(Client { stream: Arc::clone(&stream), outputs });
        }
        let heard = hear(&stream, target);
        // Whatever it said last: its place is for the next one.
        self.all().retain(|client| !Arc::ptr_eq(&client.stream, &stream));
        if let (PAUSES, Some(entry)) = (wanted[0], &target.entry) {
            // One that has ended stands still no more.
            let _ = running::go_on(entry);
        }
        heard
    }

    /// To those who want to see it.
    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        let mut all = self.all();
        if all.is_empty() {
            return;
        }
        let told = Told::Output(stream, bytes.to_owned());
        all.retain(|client| {
            let takes = !client.outputs || told.write(&*client.stream).is_ok();
            if !takes {
                // The thread that hears it has the stream too, so that letting go of it here would leave the client waiting.
                let _ = client.stream.shutdown(Shutdown::Both);
            }
            takes
        });
    }

    /// To all, the last that they hear.
    pub(super) fn end(&self, code: u8) {
        for client in self.all().drain(..) {
            // One that is gone needs no word.
            let _ = Told::End(code).write(&*client.stream);
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what a client says, until it goes away.
fn hear(stream: &UnixStream, target: &Target) -> io::Result<()> {
    while let Some(sent) = Sent::read(stream)? {
        match (sent, &target.input, &target.terminal) {
            (Sent::Input(bytes), Some(input), _) => {
                let mut input = input;
                // A process that reads no more may still write, and this client look at it.
                let _ = input.write_all(&bytes);
            }
            (Sent::Size(size), _, Some(terminal)) => terminal::resize(terminal, size),
            (Sent::Input(_) | Sent::Size(_), ..) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::unistd::pipe;

    use super::*;

    /// Waits until so many are known.
    fn are(clients: &Clients, count: usize) {
        let until = Instant::now() + PATIENCE;
        while clients.all().len() != count {
            assert!(Instant::now() < until, "{} are known, not {count}", clients.all().len());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_goes_away_leaves_room() {
        let dir = tempfile::tempdir().unwrap();
        let clients = Clients::default();
        clients.serve(dir.path(), Target { input: None, terminal: None, entry: None }).unwrap();
        let come = |wanted: u8| {
            let mut stream = attach::at(dir.path(), UnixStream::connect).unwrap();
            stream.write_all(&[wanted]).unwrap();
            stream
        };
        for count in 0..=MOST {
            let stream = come(if count % 2 == 0 { END } else { ALL });
            are(&clients, 1);
            drop(stream);
            are(&clients, 0);
        }
        let mut stays: Vec<UnixStream> = (0..MOST).map(|_| come(END)).collect();
        are(&clients, MOST);
        let mut said = Vec::new();
        come(ALL).read_to_end(&mut said).unwrap();
        assert!(said.is_empty(), "there is no room for one more");
        clients.end(7);
        for stream in &mut stays {
            let mut said = [0; 6];
            stream.read_exact(&mut said).unwrap();
            assert_eq!(said, [0, 0, 0, 0, 1, 7]);
        }
    }

    #[test]
    fn who_is_cut_off_learns_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let (ours, clients) = (Arc::new(ours), Clients::default());
        clients.all().push(Client { stream: Arc::clone(&ours), outputs: true });
        let heard =
            std::thread::spawn(move || hear(&ours, &Target { input: None, terminal: None, entry: None }));
        while !clients.all().is_empty() {
            clients.output(Stream::Stdout, &[b'x'; 4096]);
        }
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).unwrap();
        assert!(said.starts_with(&[1, 0, 0, 16, 0, b'x']), "what it was told before is there");
        heard.join().unwrap().unwrap();
    }

    #[test]
    fn a_process_that_reads_no_more_is_still_looked_at() {
        let (theirs, input) = pipe().unwrap();
        drop(theirs);
        let target = Target { input: Some(input.into()), terminal: None, entry: None };
        let (ours, mut client) = UnixStream::pair().unwrap();
        for _ in 0..2 {
            client.write_all(&[0, 0, 0, 0, 1, b'x']).unwrap();
        }
        drop(client);
        hear(&ours, &target).unwrap();
    }
}
