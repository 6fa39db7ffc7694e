//! Runs inside the virtual host: takes frames from the port, starts commands, sends back what they write.
//!
//! Each command has its own process group, one thread that feeds its standard input, one per output and one that waits
//! for it. When the harness goes away, its commands are killed. Must never know what the commands are for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::protocol::{Frame, Kind, MAX_PAYLOAD, Start};

/// How long, in milliseconds, output is still awaited after the command's own end, while something it left behind holds it open.
const LINGER_MS: u16 = 500;

type Port = Arc<Mutex<File>>;

/// A running command, as the reader of the port sees it.
struct Running {
    group: Pid,
    /// `None` once standard input has been ended.
    stdin: Option<Sender<Vec<u8>>>,
    /// The terminal's other end, kept for its size.
    terminal: Option<OwnedFd>,
}

/// What all threads share.
#[derive(Clone)]
struct Agent {
    port: Port,
    running: Arc<Mutex<HashMap<u32, Running>>>,
}

impl Agent {
    fn running(&self) -> MutexGuard<'_, HashMap<u32, Running>> {
        self.running.lock().expect("no holder of the lock panics")
    }
}

/// Serves the virtio-serial port at `path` for ever.
pub fn serve(path: &Path) -> io::Result<Infallible> {
    let mut port = OpenOptions::new().read(true).write(true).open(path)?;
    let agent = Agent { port: Arc::new(Mutex::new(port.try_clone()?)), running: Arc::default() };
    loop {
        match Frame::read(&mut port) {
            Ok(Some(frame)) => handle(frame, &agent),
            // Nobody at the other end, or out of step: end all that belongs to the old connection.
            Ok(None) | Err(_) => {
                agent.running().values().for_each(|command| signal(command, Signal::SIGKILL));
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn handle(frame: Frame, agent: &Agent) {
    let id = frame.id;
    match frame.kind {
        Kind::Hello => send(&agent.port, &frame),
        Kind::Start => {
            if let Err(error) = start(id, &frame.payload, agent) {
                let mut payload = format!("{error:#}").into_bytes();
                payload.truncate(MAX_PAYLOAD);
                send(&agent.port, &Frame { id, kind: Kind::Failed, payload });
            }
        }
        Kind::Stdin => {
            if let Some(stdin) = agent.running().get(&id).and_then(|command| command.stdin.as_ref()) {
                // The thread may have ended with the command; then nobody wants the bytes.
                let _ = stdin.send(frame.payload);
            }
        }
        Kind::StdinEnd => {
            if let Some(command) = agent.running().get_mut(&id) {
                command.stdin = None;
            }
        }
        Kind::Signal => {
            let number = frame.as_number().and_then(|number| i32::try_from(number).ok());
            if let (Some(command), Some(Ok(number))) =
                (agent.running().get(&id), number.map(Signal::try_from))
            {
                signal(command, number);
            }
        }
        Kind::Resize => {
            if let (Some(terminal), [r0, r1, c0, c1]) = (
                agent.running().get(&id).and_then(|command| command.terminal.as_ref()),
                frame.payload.as_slice(),
            ) {
                resize(terminal, u16::from_le_bytes([*r0, *r1]), u16::from_le_bytes([*c0, *c1]));
            }
        }
        Kind::Stdout | Kind::Stderr | Kind::Credit | Kind::Exit | Kind::Failed => {}
    }
}

fn send(port: &Port, frame: &Frame) {
    // A failure means that nobody listens; the reader of the port notices the same and cleans up.
    let _ = frame.write(&mut *port.lock().expect("no holder of the lock panics"));
}

fn signal(command: &Running, signal: Signal) {
    // The group may be gone already, which is what a signal would have led to.
    let _ = killpg(command.group, signal);
}

/// `stty` does what would need an unsafe ioctl here.
fn resize(terminal: &OwnedFd, rows: u16, columns: u16) {
    if let Ok(stdin) = terminal.try_clone() {
        let size = ["rows".to_owned(), rows.to_string(), "cols".to_owned(), columns.to_string()];
        let _ = Command::new("stty").args(size).stdin(stdin).status();
    }
}

fn start(id: u32, payload: &[u8], agent: &Agent) -> anyhow::Result<()> {
    let start: Start = serde_json::from_slice(payload)?;
    let (stdin, queue) = mpsc::channel();
    let (mut child, terminal) = match start.terminal {
        None => {
            (shell(&start).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?, None)
        }
        Some((rows, columns)) => {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let pty = openpty(Some(&size), None)?;
            for end in [&pty.master, &pty.slave] {
                fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            }
            let (input, output) = (pty.slave.try_clone()?, pty.slave.try_clone()?);
            (shell(&start).stdin(input).stdout(output).stderr(pty.slave).spawn()?, Some(pty.master))
        }
    };
    let group = Pid::from_raw(i32::try_from(child.id())?);
    let (ended, end) = io::pipe()?;
    let outputs = match &terminal {
        Some(master) => {
            feed(id, master.try_clone()?, queue, &agent.port);
            vec![pump(id, Kind::Stdout, master.try_clone()?, ended, &agent.port)]
        }
        None => {
            let (input, output, error) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            feed(id, input.expect("piped above").into(), queue, &agent.port);
            let output =
                pump(id, Kind::Stdout, output.expect("piped above").into(), ended.try_clone()?, &agent.port);
            vec![output, pump(id, Kind::Stderr, error.expect("piped above").into(), ended, &agent.port)]
        }
    };
    agent.running().insert(id, Running { group, stdin: Some(stdin), terminal });
    let agent = agent.clone();
    thread::spawn(move || report(id, child, end, outputs, &agent));
    Ok(())
}

fn shell(start: &Start) -> Command {
    let terminal = start.terminal.is_some();
    // With a terminal: a session that has it as its controlling one, which `setsid` does for us.
    let mut command = if terminal {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.arg("-c").arg(&start.script).envs(start.env.iter().cloned());
    if !terminal {
        command.process_group(0);
    }
    command
}

/// A thread that feeds a command's standard input and says how much was taken.
fn feed(id: u32, input: OwnedFd, queue: Receiver<Vec<u8>>, port: &Port) {
    let (mut input, port) = (File::from(input), Arc::clone(port));
    thread::spawn(move || {
        let mut open = true;
        for bytes in queue {
            // A command may close its input early; the rest is taken and dropped, as by a shell's pipe.
            open = open && input.write_all(&bytes).is_ok();
            let length = u32::try_from(bytes.len()).expect("a payload is at most MAX_PAYLOAD");
            send(&port, &Frame::number(id, Kind::Credit, length));
        }
    });
}

/// A thread that sends what the command writes. After `ended` closes, it goes on while there is more, [`LINGER_MS`] at most each time.
fn pump(id: u32, kind: Kind, from: OwnedFd, ended: PipeReader, port: &Port) -> JoinHandle<()> {
    let port = Arc::clone(port);
    thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; MAX_PAYLOAD];
        while ready(&from, &ended) {
            match from.read(&mut buffer) {
                // A terminal whose last holder is gone answers EIO.
                Ok(0) | Err(_) => break,
                Ok(length) => send(&port, &Frame { id, kind, payload: buffer[..length].to_vec() }),
            }
        }
    })
}

/// Waits until there is something to read. False when the command has ended and nothing came for a while.
fn ready(from: &File, ended: &PipeReader) -> bool {
    let mut fds =
        [PollFd::new(from.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    let mut wait = PollTimeout::NONE;
    loop {
        let outcome = match poll(&mut fds, wait) {
            Err(Errno::EINTR) => continue,
            outcome => outcome,
        };
        if outcome == Ok(0) {
            return false;
        }
        if outcome.is_err() || fds[0].any() != Some(false) {
            return true;
        }
        fds[1] = fds[0].clone();
        wait = PollTimeout::from(LINGER_MS);
    }
}

/// Waits for the command, then for its outputs, and says how it ended. `ended` is what the outputs watch.
fn report(id: u32, mut child: Child, ended: PipeWriter, outputs: Vec<JoinHandle<()>>, agent: &Agent) {
    let code = child.wait().map_or(u32::MAX, exit_code);
    drop(ended);
    for output in outputs {
        // A panic there has been printed already; the exit code still counts.
        let _ = output.join();
    }
    agent.running().remove(&id);
    send(&agent.port, &Frame::number(id, Kind::Exit, code));
}

fn exit_code(status: ExitStatus) -> u32 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(u32::MAX)
}
