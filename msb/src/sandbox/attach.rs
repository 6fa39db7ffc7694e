//! A sandbox's first process, from afar: its keeper serves a socket at which others see what it writes, write to it, and learn
//! how it ended.
//!
//! Frames both ways: a kind, the length of what follows (4 bytes, the highest first), and that. Before them a client says in one
//! byte what it wants. Nothing of the guest's is in the frames' heads.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::AsRawFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use msb_agent::protocol::TerminalSize;
use nix::libc::{O_DIRECTORY, O_PATH};

use super::{Failure, InUse, Key, Sandboxes, State, Stream};

/// In the sandbox's directory of the runtime, where paths are short.
const SOCKET: &str = "attach.sock";
/// The first byte of who wants all, of who wants the end alone, and of who pauses the sandbox for as long as this lasts.
pub(super) const ALL: u8 = b'a';
pub(super) const END: u8 = b'e';
pub(super) const PAUSES: u8 = b'p';
/// Most bytes of a frame.
const LONGEST: usize = 1 << 20;
/// How often an end is looked for that nobody tells.
const LOOK: Duration = Duration::from_millis(20);

/// What a keeper tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The process wrote this.
    Output(Stream, Vec<u8>),
    /// It ended, with this code.
    End(u8),
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// For the process to read.
    Input(Vec<u8>),
    /// Of the client's terminal.
    Size(TerminalSize),
}

/// Where a keeper serves. The address of a socket has 108 bytes (unix(7)): it is named through a descriptor of its directory.
pub(super) fn at<T>(directory: &Path, call: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let directory = File::options().read(true).custom_flags(O_PATH | O_DIRECTORY).open(directory)?;
    call(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(SOCKET))
}

fn write(mut to: impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[&[kind][..], &length.to_be_bytes(), bytes].concat())
}

/// None: the other side has closed.
fn read(mut from: impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(nonsense());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some((kind, bytes)))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other side of an attachment sends nonsense")
}

impl Told {
    pub(super) fn write(&self, to: impl Write) -> io::Result<()> {
        match self {
            Self::Output(Stream::Stdout, bytes) => write(to, 1, bytes),
            Self::Output(Stream::Stderr, bytes) => write(to, 2, bytes),
            Self::End(code) => write(to, 0, &[*code]),
        }
    }

    fn read(from: impl Read) -> io::Result<Option<Self>> {
        let Some((kind, bytes)) = read(from)? else { return Ok(None) };
        match (kind, bytes.as_slice()) {
            (1, _) => Ok(Some(Self::Output(Stream::Stdout, bytes))),
            (2, _) => Ok(Some(Self::Output(Stream::Stderr, bytes))),
            (0, [code]) => Ok(Some(Self::End(*code))),
            _ => Err(nonsense()),
        }
    }
}

impl Sent {
    fn write(&self, to: impl Write) -> io::Result<()> {
        match self {
            Self::Input(bytes) => write(to, 0, bytes),
            Self::Size(size) => write(to, 1, &[size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat()),
        }
    }

    pub(super) fn read(from: impl Read) -> io::Result<Option<Self>> {
        let Some((kind, bytes)) = read(from)? else { return Ok(None) };
        match (kind, bytes.as_slice()) {
            (0, _) => Ok(Some(Self::Input(bytes))),
            (1, &[a, b, c, d]) => Ok(Some(Self::Size(TerminalSize {
                rows: u16::from_be_bytes([a, b]),
                columns: u16::from_be_bytes([c, d]),
            }))),
            _ => Err(nonsense()),
        }
    }
}

/// A client of a sandbox's keeper.
#[derive(Debug)]
pub struct Attached {
    stream: UnixStream,
    /// Who looks uses it.
    _in_use: Option<InUse>,
}

impl Attached {
    /// For another thread, which sends.
    ///
    /// # Errors
    /// The system's.
    pub fn sender(&self) -> io::Result<Sender> {
        self.stream.try_clone().map(Sender)
    }

    /// What comes next; none: the keeper is gone without a word.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(&mut self) -> io::Result<Option<Told>> {
        Told::read(&self.stream)
    }
}

/// Sends to a sandbox's first process.
#[derive(Debug)]
pub struct Sender(UnixStream);

impl Sender {
    /// For it to read.
    ///
    /// # Errors
    /// The system's; that it has ended.
    pub fn input(&self, bytes: &[u8]) -> io::Result<()> {
        Sent::Input(bytes.to_owned()).write(&self.0)
    }

    /// Leaves the sandbox: nothing comes any more.
    pub fn close(&self) {
        // One that is closed already is as good.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// The size of its terminal, if it has one.
    ///
    /// # Errors
    /// As above.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        Sent::Size(size).write(&self.0)
    }
}

/// Who would show what the process writes.
#[derive(Debug, thiserror::Error)]
#[error(
    "Sandbox {0} is running, but its keeper was killed: what it writes is seen no more, until it is started again"
)]
struct NoKeeper(Key);

impl Sandboxes {
    /// To the first process of one that runs.
    ///
    /// # Errors
    /// [`Failure::NotRunning`], [`Failure::NoSandbox`], or that its keeper was killed.
    pub fn attach(&self, key: &Key) -> Result<Attached, Failure> {
        let (place, stored) = self.find(key)?;
        let in_use = InUse::begin(&place).map_err(Failure::other)?;
        if let Some(stream) = self.dial(key, ALL)? {
            return Ok(Attached { stream, _in_use: Some(in_use) });
        }
        // Where somebody keeps it, it is at its beginning or its end.
        let kept = place.is_kept().map_err(Failure::other)?;
        if !kept && self.state(&place, &stored)? == State::Running {
            return Err(Failure::other(NoKeeper(key.clone())));
        }
        Err(Failure::NotRunning(key.clone()))
    }

    /// None: nobody serves there.
    pub(super) fn dial(&self, key: &Key, wanted: u8) -> Result<Option<UnixStream>, Failure> {
        let (place, stored) = self.find(key)?;
        let entry = match self.reach(&place, &stored) {
            Err(Failure::NotRunning(_)) => return Ok(None),
            entry => entry?,
        };
        let Ok(mut stream) = at(entry.directory(), UnixStream::connect) else { return Ok(None) };
        stream.write_all(&[wanted]).map_err(Failure::other)?;
        Ok(Some(stream))
    }

    /// Waits until one is at rest: the code that it ended with; none: nobody saw it. One that never ran is at rest.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`]; that it can't be looked at.
    pub fn wait(&self, key: &Key) -> Result<Option<u8>, Failure> {
        let mut seen = false;
        loop {
            let info = match self.info(key) {
                Err(Failure::NoSandbox(_)) if seen => return Ok(None),
                info => info?,
            };
            match info.state {
                State::Created => return Ok(Some(0)),
                State::Stopped(exit) => {
                    return Ok(exit.map(|exit| u8::try_from(exit.code()).unwrap_or(u8::MAX)));
                }
                State::Running => seen = true,
            }
            if let Some(stream) = self.dial(key, END)? {
                let mut attached = Attached { stream, _in_use: None };
                // Where the keeper is gone without a word, what is stored says more.
                if let Ok(Some(Told::End(code))) = attached.receive() {
                    return Ok(Some(code));
                }
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_went() {
        let mut wire = Vec::new();
        let told = [
            Told::Output(Stream::Stderr, b"x\0y".to_vec()),
            Told::Output(Stream::Stdout, vec![]),
            Told::End(7),
        ];
        told.iter().for_each(|one| one.write(&mut wire).unwrap());
        let mut from = wire.as_slice();
        for one in told {
            assert_eq!(Told::read(&mut from).unwrap(), Some(one));
        }
        assert_eq!(Told::read(&mut from).unwrap(), None);
        let mut wire = Vec::new();
        let sent = [Sent::Size(TerminalSize { rows: 24, columns: 300 }), Sent::Input(b"ls\n".to_vec())];
        sent.iter().for_each(|one| one.write(&mut wire).unwrap());
        let mut from = wire.as_slice();
        for one in sent {
            assert_eq!(Sent::read(&mut from).unwrap(), Some(one));
        }
        for bad in [&[9, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0], &[1, 0, 0, 0, 1, 0], &[0, 0, 0, 0, 9, 1]] {
            Sent::read(bad).unwrap_err();
        }
    }
}
