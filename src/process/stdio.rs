//! Stdio: one vsock stream per descriptor, copied by one thread each.
//!
//! Enters: three descriptors of this process, which are the container's. Leaves: nothing; it ends when both sides
//! have. Threads with blocking I/O, because the descriptors are shared with the caller: making them
//! non-blocking would make the caller's shell's terminal non-blocking too. Not `std::io::copy`, which splices between
//! pipes and sockets: Linux holds the pipe's lock while such a splice waits for the socket (`splice_file_to_pipe`), and
//! what is in the pipe can't be read until the guest writes more.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use msb_agent::protocol::{self, FrameError, ProcessId, STREAM_PORT, Stream, StreamHello};

use super::Door;

/// Copies need little, with their buffer on the heap; the default of 2 MiB would be reserved for each.
const STACK: usize = 64 << 10;
/// Bytes copied at a time: the size of a pipe. Memory is taken only for as much as comes at once.
const BUFFER: usize = 64 << 10;

/// Why stdio could not be joined to the guest's process.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The guest could not be reached.
    #[error("No stream to the guest for {stream:?}")]
    Open {
        /// Which stream.
        stream: Stream,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The stream broke at its first frame.
    #[error("The stream for {stream:?} broke at once")]
    Hello {
        /// Which stream.
        stream: Stream,
        /// The cause.
        #[source]
        source: FrameError,
    },
    /// No descriptor or thread was to be had.
    #[error("{stream:?} can't be copied")]
    Thread {
        /// Which stream.
        stream: Stream,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The host's ends: read from, written to, and written to.
pub type Descriptors = [OwnedFd; 3];

/// This process's own descriptors 0, 1 and 2.
///
/// # Errors
/// [`StdioError::Thread`]: no descriptor is to be had.
pub fn own() -> Result<Descriptors, StdioError> {
    Ok([
        owned(io::stdin(), Stream::Stdin)?,
        owned(io::stdout(), Stream::Stdout)?,
        owned(io::stderr(), Stream::Stderr)?,
    ])
}

/// The running copies.
#[derive(Debug)]
pub struct Relays {
    outputs: usize,
    done: mpsc::Receiver<()>,
}

impl Relays {
    /// Joins `descriptors` with the streams of `process`. `stdin` false leaves the first out: the guest then has
    /// `/dev/null` there, and a terminal gets no input.
    ///
    /// # Errors
    /// The first stream that can't be had.
    pub fn join(
        door: Door,
        process: ProcessId,
        terminal: bool,
        stdin: bool,
        descriptors: Descriptors,
    ) -> Result<Self, StdioError> {
        let [input, output, errors] = descriptors;
        let (finished, done) = mpsc::channel();
        let mut relays = Self { outputs: 0, done };
        if terminal {
            let stream = open(door, process, Stream::Terminal)?;
            let back = cloned(&stream, Stream::Terminal)?;
            if stdin {
                relays.feed(Stream::Terminal, stream, input)?;
            }
            relays.drain(Stream::Terminal, back, output, finished)?;
            return Ok(relays);
        }
        if stdin {
            relays.feed(Stream::Stdin, open(door, process, Stream::Stdin)?, input)?;
        }
        relays.drain(Stream::Stdout, open(door, process, Stream::Stdout)?, output, finished.clone())?;
        relays.drain(Stream::Stderr, open(door, process, Stream::Stderr)?, errors, finished)?;
        Ok(relays)
    }

    /// Waits until all output is written or its reader is gone, for at most `patience`; whether it came to that. Where others
    /// wait for the container's end, a reader that stopped reading must not keep it alive for ever.
    pub fn finish(&mut self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        while self.outputs > 0 {
            let written = match deadline {
                None => self.done.recv().is_ok(),
                Some(deadline) => {
                    self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
                }
            };
            if !written {
                return false;
            }
            self.outputs -= 1;
        }
        true
    }

    /// Ours to the guest. Its end is the process's end of file.
    fn feed(&self, name: Stream, stream: UnixStream, source: OwnedFd) -> Result<(), StdioError> {
        spawn(name, move || {
            let mut source = File::from(source);
            // An error on either side ends the input: the process sees end of file, as it would with a pipe.
            let _ = copy(&mut source, &mut &stream);
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// The guest's to ours.
    fn drain(
        &mut self,
        name: Stream,
        stream: UnixStream,
        sink: OwnedFd,
        finished: mpsc::Sender<()>,
    ) -> Result<(), StdioError> {
        self.outputs += 1;
        spawn(name, move || {
            let mut sink = File::from(sink);
            // When our reader has gone, closing the stream lets the process see a broken pipe.
            let _ = copy(&mut &stream, &mut sink);
            if name != Stream::Terminal {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let _ = finished.send(());
        })
    }
}

fn open(door: Door, process: ProcessId, stream: Stream) -> Result<UnixStream, StdioError> {
    let mut opened = door(STREAM_PORT).map_err(|source| StdioError::Open { stream, source })?;
    protocol::write_first(&mut opened, &StreamHello::Stdio { process, stream })
        .map_err(|source| StdioError::Hello { stream, source })?;
    Ok(opened)
}

/// Until the end of `from`, or the first error of either.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn cloned(stream: &UnixStream, name: Stream) -> Result<UnixStream, StdioError> {
    stream.try_clone().map_err(|source| StdioError::Thread { stream: name, source })
}

fn owned(fd: impl AsFd, stream: Stream) -> Result<OwnedFd, StdioError> {
    fd.as_fd().try_clone_to_owned().map_err(|source| StdioError::Thread { stream, source })
}

fn spawn(stream: Stream, copy: impl FnOnce() + Send + 'static) -> Result<(), StdioError> {
    let name = format!("{stream:?}").to_lowercase();
    thread::Builder::new()
        .name(name)
        .stack_size(STACK)
        .spawn(copy)
        .map(drop)
        .map_err(|source| StdioError::Thread { stream, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stream that brings `bytes` and ends, copied to a pipe that nobody reads yet.
    fn copied(bytes: usize) -> (Relays, io::PipeReader) {
        let (mut guest, ours) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let (finished, done) = mpsc::channel();
        let mut relays = Relays { outputs: 0, done };
        relays.drain(Stream::Stdout, ours, writer.into(), finished).unwrap();
        thread::spawn(move || guest.write_all(&vec![7; bytes]).unwrap());
        (relays, reader)
    }

    #[test]
    fn a_reader_has_its_time_or_all_the_time() {
        let (mut relays, mut reader) = copied(3 * BUFFER);
        let began = Instant::now();
        assert!(!relays.finish(Some(Duration::from_millis(50))));
        assert!(began.elapsed() >= Duration::from_millis(50));
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        assert!(relays.finish(None));
        assert_eq!(late.join().unwrap(), 3 * BUFFER);

        let (mut relays, reader) = copied(3 * BUFFER);
        drop(reader);
        assert!(relays.finish(None));
    }

    #[test]
    fn what_was_copied_can_be_read_while_more_is_awaited() {
        let (mut guest, ours) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let copier = thread::spawn(move || copy(&mut &ours, &mut File::from(OwnedFd::from(writer))).unwrap());
        guest.write_all(b"ready").unwrap();
        // The copier waits for more by now.
        thread::sleep(Duration::from_millis(50));
        let (sender, received) = mpsc::channel();
        let reading = thread::spawn(move || {
            let mut bytes = [0; 5];
            reader.read_exact(&mut bytes).unwrap();
            sender.send(bytes).unwrap();
        });
        let bytes = received.recv_timeout(Duration::from_secs(10));
        drop(guest);
        assert_eq!(bytes, Ok(*b"ready"));
        copier.join().unwrap();
        reading.join().unwrap();
    }
}
