//! `GET /page/terminal`, a WebSocket: a shell in a sandbox.
//!
//! First the page says as JSON who it is and what it wants. Then its binary messages are what is typed, and its texts say
//! how large it is; ours are what the shell writes, and a text at the end.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Bytes,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    sandbox::{Exec, Exit},
    server::{
        Running,
        accept::Place,
        app::App,
        auth::origin,
        process::{Next, Process, buffers, tell},
        rpc::Problem,
    },
};

/// What a page says first.
#[derive(Deserialize)]
struct Hello {
    key: Option<String>,
    namespace: String,
    sandbox: String,
    #[serde(flatten)]
    size: Size,
}

/// What it says later.
#[derive(Deserialize, Clone, Copy)]
struct Size {
    rows: u16,
    columns: u16,
}

impl Size {
    async fn tell(self, running: &Arc<dyn Running>) {
        let Self { rows, columns } = self;
        tell(running, move |running| running.resize(rows.max(1), columns.max(1))).await;
    }
}

/// The shell that people like, or the one that there is.
const SHELL: [&str; 3] =
    ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];
/// What the page can do, of the kinds that are widely known.
const TERM: &str = "TERM=xterm-256color";
/// For the first message, and for a message to be taken by a page.
const SLOW: Duration = Duration::from_secs(30);
/// Bytes that are typed and not read: nothing more is taken from the page then.
const TYPED: usize = 1 << 20;
/// Bytes of one message of a page's.
const MESSAGE: usize = 256 << 10;

pub(super) async fn route(
    State(app): State<Arc<App>>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // A browser lets every page open a WebSocket to everywhere, and says from where.
    if origin::is_foreign(&headers) {
        return (StatusCode::FORBIDDEN, "A terminal is for this server's own page").into_response();
    }
    let Some(permit) = app.session() else { return Problem::busy() };
    upgrade.max_message_size(MESSAGE).on_upgrade(|mut socket| async move {
        let _permit = permit;
        let last = match session(&app, &mut socket, place).await {
            Ok(Some(exit)) => json!({ "exit": exit.code() }),
            Ok(None) => return,
            Err(problem) => json!({ "error": problem.to_string() }),
        };
        let _ = say(&mut socket, Message::Text(last.to_string().into())).await;
        let _ = say(&mut socket, Message::Close(None)).await;
    })
}

/// From the first message to the shell's end; none: the page went away.
async fn session(app: &App, socket: &mut WebSocket, place: Place) -> Result<Option<Exit>, Problem> {
    let hello = match tokio::time::timeout(SLOW, socket.recv()).await {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str::<Hello>(&text),
        _ => return Ok(None),
    };
    let hello = hello.map_err(|error| Problem::Bad(error.to_string()))?;
    let caller = app.config.access.caller_with(hello.key.as_deref())?;
    let key = caller.key(Some(hello.namespace.parse()?), hello.sandbox.parse()?)?;
    let exec = Exec { env: vec![TERM.into()], terminal: true, ..Exec::of(&SHELL) };
    let mut process = Process::begin(&app.engine, &key, exec, true).await?;
    hello.size.tell(&process.running()).await;
    relay(&mut process, socket, place).await
}

async fn relay(
    process: &mut Process,
    socket: &mut WebSocket,
    mut place: Place,
) -> Result<Option<Exit>, Problem> {
    let Some(stdin) = process.stdin.take() else { return Ok(None) };
    let running = process.running();
    let mut buffers = buffers();
    let mut open = [true; 2];
    let mut typed: Vec<u8> = Vec::new();
    let failed = |error: std::io::Error| Problem::failed(error.to_string());
    loop {
        tokio::select! {
            () = place.end() => return Ok(None),
            next = process.next(&mut buffers, open) => match next.map_err(failed)? {
                Next::Read(side, 0) => open[side as usize] = false,
                Next::Read(side, read) => {
                    let bytes = Bytes::copy_from_slice(&buffers[side as usize][..read]);
                    if !say(socket, Message::Binary(bytes)).await {
                        return Ok(None);
                    }
                }
                Next::Ended(exit) => return Ok(Some(exit)),
            },
            () = ready(&stdin), if !typed.is_empty() => match stdin.try_write(&typed) {
                Ok(written) => drop(typed.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // It reads no more: what it says and how it ends is still to come.
                Err(_) => typed.clear(),
            },
            message = socket.recv(), if typed.len() < TYPED => match message {
                Some(Ok(Message::Binary(bytes))) => typed.extend_from_slice(&bytes),
                Some(Ok(Message::Text(text))) => {
                    if let Ok(size) = serde_json::from_str::<Value>(&text).and_then(serde_json::from_value::<Size>) {
                        size.tell(&running).await;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
            },
        }
    }
}

async fn ready(stdin: &tokio::net::unix::pipe::Sender) {
    let _ = stdin.writable().await;
}

/// Sends a message; false: nobody takes it.
async fn say(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SLOW, socket.send(message)).await, Ok(Ok(())))
}
