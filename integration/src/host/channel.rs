//! The harness's end of the command channel: start a command in the host, stream to and from it.
//!
//! Enters: a connected stream. Leaves: [`Channel`], on which several commands may run at once, each from its own thread.
//! Must never know how the host came to be.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::protocol::{Frame, HELLO_MAGIC, Kind, MAX_PAYLOAD, ProtocolError, STDIN_WINDOW, Start};

/// Why a command could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed.
    #[error("The command channel of the virtual host is broken")]
    Io(#[from] io::Error),
    /// Unreadable frames.
    #[error("The command channel of the virtual host cannot be understood")]
    Protocol(#[from] ProtocolError),
    /// No answer to hello.
    #[error("The agent in the virtual host did not answer within {seconds} s")]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// The host went away while the command ran.
    #[error("The virtual host went away during the command; its console log tells why")]
    Gone,
    /// The agent could not start the command.
    #[error("The command could not be started in the virtual host: {reason}")]
    Start {
        /// What the agent said.
        reason: String,
    },
    /// It took too long, and was killed.
    #[error("The command was still running after {seconds} s")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
}

/// Where a command's output goes, as it comes.
#[expect(missing_debug_implementations, reason = "any writer will do")]
pub struct Sinks<'a> {
    /// Standard output, or the terminal.
    pub stdout: &'a mut dyn Write,
    /// Standard error.
    pub stderr: &'a mut dyn Write,
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    next: AtomicU32,
}

#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    writer: Mutex<UnixStream>,
    /// Who waits for frames, by command. `None` once the connection is over.
    waiting: Mutex<Option<HashMap<u32, Sender<Frame>>>>,
}

/// Standard input that is on its way, in bytes; `None` when nobody will take any more.
type Window = Arc<(Mutex<Option<usize>>, Condvar)>;

impl Channel {
    /// Greets the agent at the other end of `socket` and waits `timeout` for its answer.
    pub fn open(socket: UnixStream, timeout: Duration) -> Result<Self, ChannelError> {
        greet(&socket, timeout)?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(socket.try_clone()?),
            waiting: Mutex::new(Some(HashMap::new())),
            socket,
        });
        let mut reader = shared.socket.try_clone()?;
        let route = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut reader) {
                if let Some(waiting) = route.waiting().as_ref().and_then(|all| all.get(&frame.id)) {
                    // One who gave up on its command wants no more of it.
                    let _ = waiting.send(frame);
                }
            }
            *route.waiting() = None;
        });
        Ok(Self { shared, next: AtomicU32::new(1) })
    }

    /// Runs `start` with `stdin` (`None`: at its end from the beginning), and gives its exit code. `timeout` kills it.
    pub fn run(
        &self,
        start: &Start,
        stdin: Option<Box<dyn Read + Send>>,
        sinks: &mut Sinks<'_>,
        timeout: Option<Duration>,
    ) -> Result<i32, ChannelError> {
        let command = self.start(start, stdin)?;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let frame = match deadline {
                None => command.frames.recv().map_err(|_| ChannelError::Gone)?,
                Some(deadline) => {
                    match command.frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                        Ok(frame) => frame,
                        Err(RecvTimeoutError::Disconnected) => return Err(ChannelError::Gone),
                        Err(RecvTimeoutError::Timeout) => {
                            command.signal(9)?;
                            return Err(ChannelError::Timeout {
                                seconds: timeout.unwrap_or_default().as_secs(),
                            });
                        }
                    }
                }
            };
            match frame.kind {
                Kind::Stdout => {
                    sinks.stdout.write_all(&frame.payload)?;
                    sinks.stdout.flush()?;
                }
                Kind::Stderr => {
                    sinks.stderr.write_all(&frame.payload)?;
                    sinks.stderr.flush()?;
                }
                Kind::Credit => command.credit(frame.as_number().unwrap_or(0)),
                Kind::Failed => {
                    return Err(ChannelError::Start {
                        reason: String::from_utf8_lossy(&frame.payload).into_owned(),
                    });
                }
                Kind::Exit => {
                    return Ok(frame.as_number().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1));
                }
                Kind::Hello | Kind::Start | Kind::Stdin | Kind::StdinEnd | Kind::Signal | Kind::Resize => {}
            }
        }
    }

    /// Tells every command's terminal the new size.
    pub fn resize_all(&self, rows: u16, columns: u16) -> Result<(), ChannelError> {
        let ids: Vec<u32> = self.shared.waiting().iter().flatten().map(|(id, _)| *id).collect();
        let payload = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
        ids.into_iter()
            .try_for_each(|id| self.shared.send(&Frame { id, kind: Kind::Resize, payload: payload.clone() }))
    }

    fn start(&self, start: &Start, stdin: Option<Box<dyn Read + Send>>) -> Result<Command<'_>, ChannelError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, frames) = mpsc::channel();
        self.shared.waiting().as_mut().ok_or(ChannelError::Gone)?.insert(id, sender);
        let window: Window = Arc::new((Mutex::new(Some(0)), Condvar::new()));
        let command = Command { id, shared: &self.shared, frames, window };
        let payload = serde_json::to_vec(start).map_err(io::Error::from)?;
        if payload.len() > MAX_PAYLOAD {
            return Err(ChannelError::Start {
                reason: "the script is too long; give it as standard input".into(),
            });
        }
        self.shared.send(&Frame { id, kind: Kind::Start, payload })?;
        match stdin {
            None => self.shared.send(&Frame { id, kind: Kind::StdinEnd, payload: Vec::new() })?,
            Some(stdin) => {
                let (shared, window) = (Arc::clone(&self.shared), Arc::clone(&command.window));
                // Not joined: a read of a terminal may never return.
                thread::spawn(move || feed(id, stdin, &shared, &window));
            }
        }
        Ok(command)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Ends the reading thread; a socket that is closed already needs no more.
        let _ = self.shared.socket.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn send(&self, frame: &Frame) -> Result<(), ChannelError> {
        Ok(frame.write(&mut *self.writer.lock().expect("no holder of the lock panics"))?)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u32, Sender<Frame>>>> {
        self.waiting.lock().expect("no holder of the lock panics")
    }
}

struct Command<'a> {
    id: u32,
    shared: &'a Shared,
    frames: Receiver<Frame>,
    window: Window,
}

impl Command<'_> {
    fn signal(&self, number: u32) -> Result<(), ChannelError> {
        self.shared.send(&Frame::number(self.id, Kind::Signal, number))
    }

    fn credit(&self, bytes: u32) {
        let mut window = self.window.0.lock().expect("no holder of the lock panics");
        *window = window.map(|used| used.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX)));
        self.window.1.notify_all();
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.shared.waiting().as_mut() {
            waiting.remove(&self.id);
        }
        *self.window.0.lock().expect("no holder of the lock panics") = None;
        self.window.1.notify_all();
    }
}

/// Sends standard input as the window allows, then its end. Ends when the command or the connection does.
fn feed(id: u32, mut stdin: Box<dyn Read + Send>, shared: &Shared, window: &Window) {
    let mut buffer = vec![0; MAX_PAYLOAD];
    loop {
        let length = match stdin.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // What cannot be read is at its end, as it would be for a shell.
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let guard = window.0.lock().expect("no holder of the lock panics");
        let full = |used: &mut Option<usize>| used.is_some_and(|used| used + MAX_PAYLOAD > STDIN_WINDOW);
        let mut used = window.1.wait_while(guard, full).expect("no holder of the lock panics");
        match used.as_mut() {
            None => return,
            Some(used) => *used += length,
        }
        drop(used);
        if shared.send(&Frame { id, kind: Kind::Stdin, payload: buffer[..length].to_vec() }).is_err() {
            return;
        }
    }
    // A connection that is over needs no end of input.
    let _ = shared.send(&Frame { id, kind: Kind::StdinEnd, payload: Vec::new() });
}

/// Sends hello and drops all that comes before its echo.
fn greet(mut socket: &UnixStream, timeout: Duration) -> Result<(), ChannelError> {
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let hello = Frame::hello(u64::from(nonce) | 1 << 63);
    let expected = hello.encode();
    debug_assert!(expected.windows(HELLO_MAGIC.len()).any(|window| window == HELLO_MAGIC));
    hello.write(&mut socket)?;
    let silent = ChannelError::Silent { seconds: timeout.as_secs() };
    let deadline = Instant::now() + timeout;
    let mut seen = Vec::new();
    while !seen.ends_with(&expected) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent);
        }
        socket.set_read_timeout(Some(left))?;
        let mut byte = [0];
        match socket.read(&mut byte) {
            Ok(0) => return Err(ChannelError::Gone),
            Ok(_) => seen.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(silent),
            Err(error) => return Err(error.into()),
        }
        if seen.len() > 2 * MAX_PAYLOAD {
            seen.drain(..MAX_PAYLOAD);
        }
    }
    Ok(socket.set_read_timeout(None)?)
}
