//! A process of a stream: from its request to its end.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::Sender,
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinSet},
};

use super::frame::{BadFrame, Data, Frame, message};
use crate::{
    sandbox::{Exec, Exit, Failure, Key},
    server::{
        app::App,
        process::{Next, Process, Side, buffers},
    },
};

/// A process to be begun.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    cwd: Option<PathBuf>,
    user: Option<String>,
    #[serde(default)]
    tty: bool,
    #[serde(default = "rows")]
    rows: u16,
    #[serde(default = "columns")]
    cols: u16,
}

fn rows() -> u16 {
    24
}

fn columns() -> u16 {
    80
}

#[derive(Serialize)]
struct Started {
    pid: u32,
}

#[derive(Serialize, Deserialize)]
struct Piece {
    data: Data,
}

#[derive(Serialize)]
struct Exited {
    code: i32,
}

#[derive(Serialize)]
struct Failed {
    kind: &'static str,
    errno: Option<i32>,
    errno_name: Option<&'static str>,
    message: String,
    stage: Option<&'static str>,
}

#[derive(Deserialize)]
struct Resize {
    rows: u16,
    cols: u16,
}

#[derive(Deserialize)]
struct Signal {
    signal: i32,
}

/// What its client says to a process.
enum Told {
    Stdin(Vec<u8>),
    Resize(u16, u16),
    Signal(i32),
}

/// Bytes for processes that they have not read yet, of all of a stream.
#[derive(Default)]
pub(super) struct Queue {
    bytes: AtomicUsize,
    read: Notify,
}

/// Above it nothing more is taken from a client.
const QUEUE: usize = 8 << 20;

impl Queue {
    pub(super) fn full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > QUEUE
    }

    /// Waits until something was read.
    pub(super) async fn shrinks(&self) {
        self.read.notified().await;
    }

    fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.read.notify_one();
    }
}

/// A process of a stream. Who drops it ends it.
pub(super) struct Session {
    told: mpsc::UnboundedSender<Told>,
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    pub(super) fn ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Passes on what a frame says.
    pub(super) fn tell(&self, frame: &Frame) -> Result<(), BadFrame> {
        let told = match frame.kind.as_str() {
            "core.exec.stdin" => {
                let data = frame.payload::<Piece>()?.data.0;
                self.queue.bytes.fetch_add(data.len(), Ordering::Relaxed);
                Told::Stdin(data)
            }
            "core.exec.resize" => {
                let Resize { rows, cols } = frame.payload()?;
                Told::Resize(rows.max(1), cols.max(1))
            }
            _ => Told::Signal(frame.payload::<Signal>()?.signal),
        };
        // One that ended takes nothing more.
        if let Err(mpsc::error::SendError(Told::Stdin(data))) = self.told.send(told) {
            self.queue.remove(data.len());
        }
        Ok(())
    }
}

/// Begins a process; what it does goes to `sender` as frames of `id`.
pub(super) fn begin(
    app: Arc<App>,
    key: Key,
    id: u32,
    request: Request,
    sender: mpsc::Sender<Vec<u8>>,
    queue: &Arc<Queue>,
) -> Session {
    let (told, tells) = mpsc::unbounded_channel();
    let heard = Heard { tells, queue: Arc::clone(queue) };
    let task = tokio::spawn(async move {
        let last = match run(&app, &key, id, request, &sender, heard).await {
            Ok(exit) => message(id, "core.exec.exited", true, &Exited { code: exit.code() }),
            Err(failure) => message(id, "core.exec.failed", true, &failed(&failure)),
        };
        let _ = sender.send(last).await;
    });
    Session { told, queue: Arc::clone(queue), task: task.abort_handle() }
}

fn failed(failure: &Failure) -> Failed {
    let (kind, errno, errno_name) = match failure {
        Failure::NoProgram { reason, .. } if reason.to_lowercase().contains("denied") => {
            ("permission_denied", Some(nix::libc::EACCES), Some("EACCES"))
        }
        Failure::NoProgram { .. } => ("not_found", Some(nix::libc::ENOENT), Some("ENOENT")),
        Failure::Bad(_) => ("bad_args", None, None),
        _ => ("other", None, None),
    };
    Failed { kind, errno, errno_name, message: failure.chain(), stage: None }
}

async fn run(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Result<Exit, Failure> {
    let terminal = request.tty;
    let exec = Exec {
        args: [vec![request.cmd], request.args].concat(),
        env: request.env,
        workdir: request.cwd,
        user: request.user,
        terminal,
    };
    if exec.args.iter().chain(&exec.env).any(|text| text.contains('\0')) {
        return Err(Failure::Bad("A program and its arguments have no zero bytes".into()));
    }
    let mut process = Process::begin(&app.engine, key, exec, true).await?;
    if terminal {
        process.running().resize(request.rows.max(1), request.cols.max(1));
    }
    // Its number is known in the sandbox alone, and nothing that a client does needs it.
    let _ = sender.send(message(id, "core.exec.started", false, &Started { pid: 0 })).await;
    let mut heard = JoinSet::new();
    let stdin = process.stdin.take();
    let running = process.running();
    heard.spawn(hear(told, stdin, running));
    let mut buffers = buffers();
    let mut open = [true; 2];
    let mut exit = None;
    while exit.is_none() || open != [false; 2] {
        let next = process.next(&mut buffers, open);
        let next = match exit {
            None => next.await,
            Some(_) => match tokio::time::timeout(LAST_WORDS, next).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next.map_err(Failure::other)? {
            Next::Read(side, 0) => open[side as usize] = false,
            Next::Read(side, read) => {
                let kind = if side == Side::Out { "core.exec.stdout" } else { "core.exec.stderr" };
                let data = Data(buffers[side as usize][..read].to_vec());
                if sender.send(message(id, kind, false, &Piece { data })).await.is_err() {
                    break;
                }
            }
            Next::Ended(ended) if exit.is_none() => exit = Some(ended),
            Next::Ended(_) => break,
        }
    }
    Ok(match exit {
        Some(exit) => exit,
        None => process.wait().await,
    })
}

/// For what a process wrote before its end, where others have its streams.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// What a client says, to its end: what is left then is read by nobody.
struct Heard {
    tells: mpsc::UnboundedReceiver<Told>,
    queue: Arc<Queue>,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.tells.close();
        while let Ok(told) = self.tells.try_recv() {
            if let Told::Stdin(data) = told {
                self.queue.remove(data.len());
            }
        }
    }
}

/// Does what its client says to it. An empty piece is the end of its stdin.
async fn hear(mut told: Heard, mut stdin: Option<Sender>, running: Arc<dyn crate::server::Running>) {
    while let Some(tells) = told.tells.recv().await {
        match tells {
            Told::Stdin(data) if data.is_empty() => stdin = None,
            Told::Stdin(data) => {
                let written = match &mut stdin {
                    Some(open) => open.write_all(&data).await.is_ok(),
                    None => false,
                };
                told.queue.remove(data.len());
                if !written {
                    stdin = None;
                }
            }
            Told::Resize(rows, columns) => {
                let running = Arc::clone(&running);
                let _ = tokio::task::spawn_blocking(move || running.resize(rows, columns)).await;
            }
            Told::Signal(number) if (1..=64).contains(&number) => {
                let running = Arc::clone(&running);
                let _ = tokio::task::spawn_blocking(move || running.signal(number)).await;
            }
            Told::Signal(_) => {}
        }
    }
}
