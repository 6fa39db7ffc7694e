//! `GET /v1/sandboxes/{id}/agent`, a WebSocket: processes and files of a sandbox for who speaks to the original's agent.
//!
//! Its binary messages are pieces of one stream of frames in each direction. Frames of one id belong together: a process
//! with its streams, a question about files, or a connection to a port.

mod entry;
mod exec;
mod files;
mod frame;
mod session;
mod tcp;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;
use tokio::sync::mpsc;

use self::frame::{BadFrame, Frame, message, take};
use super::{problem::Problem, sandbox::of_id};
use crate::{
    sandbox::{Boot, Failure, Key},
    server::{
        accept::Place,
        app::App,
        auth::{Caller, Refused, origin},
    },
};

/// Of what a client sends in one message.
const MESSAGE: usize = 8 << 20;
/// Frames to a client that it does not take yet: who writes them waits then.
const WAITING: usize = 16;
/// Processes of one stream at once.
const SESSIONS: usize = 256;
/// Ids that a client may use: each stream is its own, so all but 0.
const IDS: [u32; 2] = [1, u32::MAX];
/// For a message to be taken.
const SLOW: Duration = Duration::from_secs(60);

pub(super) async fn route(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(place): Extension<Place>,
    Path(which): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    // A browser lets every page open a WebSocket to everywhere, and says from where.
    if origin::is_foreign(&headers) {
        return Err(Refused::Denied.into());
    }
    let key = of_id(&caller, &which)?;
    let info = app.on(&key, |engine, key| engine.info(key)).await?;
    if !info.running() {
        return Err(Failure::NotRunning(key).into());
    }
    let session = app.session().ok_or(Problem::Busy)?;
    let ready = Ready::of(info.boot);
    Ok(upgrade.max_message_size(MESSAGE).on_upgrade(|socket| async move {
        Relay::of(app, key).run(socket, place, ready).await;
        drop(session);
    }))
}

/// One client's stream.
struct Relay {
    app: Arc<App>,
    key: Key,
    sessions: HashMap<u32, session::Session>,
    touches: u64,
    queue: Arc<session::Queue>,
    handles: Arc<files::Handles>,
    sender: mpsc::Sender<Vec<u8>>,
    receiver: mpsc::Receiver<Vec<u8>>,
}

/// When the machine was how far, from its first instruction on; zeros: it is not known.
#[derive(Serialize)]
struct Ready {
    /// The kernel's part.
    boot_time_ns: u64,
    /// And the agent's.
    init_time_ns: u64,
    /// All of it.
    ready_time_ns: u64,
    agent_version: &'static str,
}

impl Ready {
    fn of(boot: Option<Boot>) -> Self {
        let [kernel, agent] = boot.map_or([Duration::ZERO; 2], |boot| [boot.kernel, boot.agent]);
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            boot_time_ns: nanoseconds(kernel),
            init_time_ns: nanoseconds(agent),
            ready_time_ns: nanoseconds(kernel.saturating_add(agent)),
            agent_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Touched {
    activity_seq: u64,
}

#[derive(Serialize)]
struct CoreError<'text> {
    kind: &'static str,
    message: &'text str,
    offending_type: Option<&'text str>,
}

impl Relay {
    fn of(app: Arc<App>, key: Key) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            app,
            key,
            sessions: HashMap::new(),
            touches: 0,
            queue: Arc::default(),
            handles: Arc::default(),
            sender,
            receiver,
        }
    }

    /// Until the client goes away, or says what is none of this. What it began ends with it.
    async fn run(mut self, mut socket: WebSocket, mut place: Place, ready: Ready) {
        let mut hello: Vec<u8> = IDS.iter().flat_map(|id| id.to_be_bytes()).collect();
        hello.extend(message(0, "core.ready", false, &ready));
        if !say(&mut socket, hello).await {
            return;
        }
        let mut held = Vec::new();
        loop {
            tokio::select! {
                () = place.end() => return,
                Some(frame) = self.receiver.recv() => {
                    if !say(&mut socket, frame).await {
                        return;
                    }
                }
                () = self.queue.shrinks(), if self.queue.full() => {}
                received = socket.recv(), if !self.queue.full() => match received {
                    Some(Ok(Message::Binary(bytes))) => {
                        held.extend_from_slice(&bytes);
                        loop {
                            match take(&mut held) {
                                Ok(Some(frame)) => {
                                    if let Some(answer) = self.take(&frame) && !say(&mut socket, answer).await {
                                        return;
                                    }
                                }
                                Ok(None) => break,
                                // Nothing after it can be read either.
                                Err(_) => return,
                            }
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }

    fn begin(&self, frame: &Frame) -> Result<session::Session, BadFrame> {
        let (app, key, id) = (Arc::clone(&self.app), self.key.clone(), frame.id);
        let sender = self.sender.clone();
        if frame.kind == "core.fs.request" {
            let (request, handles) = (frame.payload()?, Arc::clone(&self.handles));
            return Ok(session::Session::begin(&self.queue, sender.clone(), move |told| async move {
                files::run(&app, &key, id, request, &handles, &sender, told).await
            }));
        }
        if frame.kind == "core.tcp.connect" {
            let request = frame.payload()?;
            return Ok(session::Session::begin(&self.queue, sender.clone(), move |told| async move {
                tcp::run(&app, &key, id, request, &sender, told).await
            }));
        }
        let request = frame.payload()?;
        Ok(session::Session::begin(&self.queue, sender.clone(), move |told| async move {
            exec::run(&app, &key, id, request, &sender, told).await
        }))
    }

    /// Does what a frame says; what is to be answered at once.
    fn take(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        self.sessions.retain(|_, session| !session.ended());
        let wrong = |kind, text: &str| {
            let error = CoreError { kind, message: text, offending_type: Some(&frame.kind) };
            Some(message(frame.id, "core.error", true, &error))
        };
        match frame.kind.as_str() {
            "core.ping" => Some(message(frame.id, "core.pong", true, &Nothing {})),
            "core.touch" => {
                self.touches += 1;
                let (app, key) = (Arc::clone(&self.app), self.key.clone());
                // Of one that has ended there is nothing to touch.
                tokio::spawn(async move { app.on(&key, |engine, key| engine.touch(key)).await });
                let touched = Touched { activity_seq: self.touches };
                Some(message(frame.id, "core.touched", true, &touched))
            }
            "core.tcp.close" => {
                self.sessions.remove(&frame.id);
                None
            }
            "core.exec.request" | "core.fs.request" | "core.tcp.connect" => {
                if self.sessions.contains_key(&frame.id) {
                    return wrong("invalid_session", "Something of this id runs");
                }
                if self.sessions.len() >= SESSIONS {
                    return wrong("invalid_session", "Too much at once of one stream");
                }
                match self.begin(frame) {
                    Ok(session) => drop(self.sessions.insert(frame.id, session)),
                    Err(_) => return wrong("invalid_payload", "This is no question"),
                }
                None
            }
            "core.exec.stdin" | "core.exec.resize" | "core.exec.signal" | "core.fs.data"
            | "core.tcp.data" | "core.tcp.eof" => {
                // One that ended meanwhile is no error: its client can't know yet.
                let session = self.sessions.get(&frame.id)?;
                match session.tell(frame) {
                    Ok(()) => None,
                    Err(_) => wrong("invalid_payload", "This says nothing to a process"),
                }
            }
            _ => wrong("unsupported_message_type", "Not here"),
        }
    }
}

async fn say(socket: &mut WebSocket, bytes: Vec<u8>) -> bool {
    let sent = socket.send(Message::Binary(Bytes::from(bytes)));
    matches!(tokio::time::timeout(SLOW, sent).await, Ok(Ok(())))
}
