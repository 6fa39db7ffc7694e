//! The streams of a sandbox's first process: to its log, and for one in the foreground also to this process's own.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use msb_runtime::{
    process::terminal::{self, Pair, Raw},
    state::Entry,
};
use nix::unistd::pipe;

use super::{
    clients::{Clients, Target},
    log::{Lines, Log},
    signals, spawn,
};
use crate::sandbox::{Request, Stream};

/// Where a sandbox is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// By a process that nobody sees.
    Hidden,
    /// By a command whose own streams and signals are the sandbox's.
    Own,
}

/// What the first process gets.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) descriptors: [std::process::Stdio; 3],
    pub(super) has_input: bool,
}

/// This process's ends.
#[derive(Debug)]
pub(super) struct Streams {
    stdio: Stdio,
    joined: Joined,
}

/// What is copied.
#[derive(Debug)]
pub(super) struct Joined {
    front: Front,
    log: Arc<Log>,
    /// A terminal, or stdout and stderr.
    outputs: Vec<(OwnedFd, Stream)>,
    terminal: Option<OwnedFd>,
    /// Of one in the background: whoever attaches writes to it, and nobody sees its end.
    input: Option<OwnedFd>,
}

/// Copies that run.
#[derive(Debug)]
pub(super) struct Served {
    copies: Vec<JoinHandle<()>>,
    raw: Option<Raw>,
    clients: Clients,
}

impl Streams {
    /// As the request says.
    pub(super) fn open(request: &Request, front: Front, log: Log) -> io::Result<Self> {
        let log = Arc::new(log);
        let other = |error: terminal::TerminalError| io::Error::other(error);
        if request.terminal {
            let Pair { master, slave } = Pair::open().map_err(other)?;
            if let Some(size) = terminal::size(io::stdin()).filter(|_| front == Front::Own) {
                terminal::resize(&master, size);
            }
            let descriptors = [slave.try_clone()?.into(), slave.try_clone()?.into(), slave.into()];
            let outputs = vec![(master.try_clone()?, Stream::Stdout)];
            let joined = Joined { front, log, outputs, terminal: Some(master), input: None };
            return Ok(Self { stdio: Stdio { descriptors, has_input: true }, joined });
        }
        let (out, out_end) = pipe()?;
        let (err, err_end) = pipe()?;
        let (stdin, input, has_input) = match (request.stdin, front) {
            (false, _) => (std::process::Stdio::null(), None, false),
            (true, Front::Own) => (std::process::Stdio::inherit(), None, true),
            (true, Front::Hidden) => {
                let (end, input) = pipe()?;
                (end.into(), Some(input), true)
            }
        };
        let outputs = vec![(out, Stream::Stdout), (err, Stream::Stderr)];
        let joined = Joined { front, log, outputs, terminal: None, input };
        Ok(Self { stdio: Stdio { descriptors: [stdin, out_end.into(), err_end.into()], has_input }, joined })
    }

    /// What the process gets goes there before anything is copied: an end that stays here would never be seen to end.
    pub(super) fn split(self) -> (Stdio, Joined) {
        (self.stdio, self.joined)
    }
}

impl Joined {
    /// Copies from now on, to those as well who attach by way of the directory of `entry`; for a foreground, signals go to the
    /// process `vmm`, too.
    pub(super) fn serve(self, vmm: u32, entry: Entry) -> io::Result<Served> {
        let own = self.front == Front::Own;
        let mut raw = None;
        if own {
            signals::forward(vmm, self.terminal.as_ref().map(OwnedFd::try_clone).transpose()?)?;
            if let Some(master) = &self.terminal {
                raw = Raw::enter(io::stdin()).ok();
                let mut input = File::from(master.try_clone()?);
                spawn("input", move || pass(io::stdin().lock(), |bytes| input.write_all(bytes)))?;
            }
        }
        let clients = Clients::default();
        let written = match (&self.terminal, self.input) {
            (Some(master), _) => Some(master.try_clone()?),
            (None, input) => input,
        };
        let directory = entry.directory().to_owned();
        let target = Target { input: written.map(File::from), terminal: self.terminal, entry: Some(entry) };
        clients.serve(&directory, target)?;
        let mut copies = Vec::new();
        for (from, stream) in self.outputs {
            let (log, clients) = (Arc::clone(&self.log), clients.clone());
            let copy = move || copy(from, stream, own, &log, &clients);
            copies.push(Builder::new().name("output".into()).stack_size(256 << 10).spawn(copy)?);
        }
        Ok(Served { copies, raw, clients })
    }
}

impl Served {
    /// Waits until all that was written is where it belongs. Returns those who want to know the end.
    pub(super) fn finish(self) -> Clients {
        for copy in self.copies {
            // It does not panic.
            let _ = copy.join();
        }
        drop(self.raw);
        self.clients
    }
}

/// A reader that is gone must not keep the others from the log.
fn copy(from: OwnedFd, stream: Stream, own: bool, log: &Log, clients: &Clients) {
    let mut lines = Lines::new(log, stream);
    let mut out = own.then(|| match stream {
        Stream::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned().map(File::from),
    });
    pass(File::from(from), |bytes| {
        if let Some(Ok(file)) = &mut out
            && file.write_all(bytes).is_err()
        {
            out = None;
        }
        lines.take(bytes);
        clients.output(stream, bytes);
        Ok(())
    });
}

/// Each piece at once: somebody may wait for it. EIO is how a terminal says that its other side is closed.
fn pass(mut from: impl Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) {
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                if to(&piece[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
