//! What belongs to one id of a stream: work that is done for its client, which says more to it meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::Deserialize;
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::Sender,
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use super::frame::{BadFrame, Frame, Piece};
use crate::server::{Running, process::tell};

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
    /// Does `work`, which hears what its client says, and sends what comes of it.
    pub(super) fn begin<W: Future<Output = Vec<u8>> + Send + 'static>(
        queue: &Arc<Queue>,
        sender: mpsc::Sender<Vec<u8>>,
        work: impl FnOnce(Heard) -> W,
    ) -> Self {
        let (told, tells) = mpsc::unbounded_channel();
        let work = work(Heard { tells, queue: Arc::clone(queue) });
        let task = tokio::spawn(async move {
            let last = work.await;
            let _ = sender.send(last).await;
        });
        Self { told, queue: Arc::clone(queue), task: task.abort_handle() }
    }

    pub(super) fn ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Passes on what a frame says.
    pub(super) fn tell(&self, frame: &Frame) -> Result<(), BadFrame> {
        let told = match frame.kind.as_str() {
            "core.tcp.eof" => Told::Stdin(Vec::new()),
            "core.exec.stdin" | "core.fs.data" | "core.tcp.data" => {
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

#[derive(Deserialize)]
struct Signal {
    signal: i32,
}

#[derive(Deserialize)]
struct Resize {
    rows: u16,
    cols: u16,
}

/// What a client says, to its end: what is left then is read by nobody.
pub(super) struct Heard {
    tells: mpsc::UnboundedReceiver<Told>,
    queue: Arc<Queue>,
}

impl Heard {
    /// The next piece, where there is nothing but those to be said; an empty one is the end of them.
    pub(super) async fn data(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.tells.recv().await? {
                Told::Stdin(data) => {
                    self.queue.remove(data.len());
                    return Some(data);
                }
                Told::Resize(..) | Told::Signal(_) => {}
            }
        }
    }
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
pub(super) async fn hear(mut told: Heard, mut stdin: Option<Sender>, running: Arc<dyn Running>) {
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
                tell(&running, move |running| running.resize(rows, columns)).await;
            }
            Told::Signal(number) if (1..=64).contains(&number) => {
                tell(&running, move |running| running.signal(number)).await;
            }
            Told::Signal(_) => {}
        }
    }
}
