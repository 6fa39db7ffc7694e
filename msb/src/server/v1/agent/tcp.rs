//! A connection of a stream to a port in the sandbox: its localhost, where whatever serves in it can be reached.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::UnixStream,
    sync::mpsc,
};

use super::{
    Nothing,
    frame::{Data, Piece, message},
    session::Heard,
};
use crate::{
    sandbox::{Connection, Failure, Key},
    server::app::App,
};

/// Where to.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    host: String,
    port: u16,
}

#[derive(Serialize)]
struct Failed {
    error: String,
}

/// What the sandbox's own localhost is called.
const LOCALHOST: [&str; 4] = ["localhost", "127.0.0.1", "::1", "0.0.0.0"];
/// Bytes of a frame.
const PIECE: usize = 64 << 10;
/// For what serves there to take a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Joins a client with a port; what comes from there goes to `sender` as frames of `id`, and its end is what is returned.
pub(super) async fn run(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Vec<u8> {
    match join(app, key, id, request, sender, told).await {
        Ok(()) => message(id, "core.tcp.closed", true, &Nothing {}),
        Err(failure) => message(id, "core.tcp.failed", true, &Failed { error: failure.chain() }),
    }
}

async fn join(
    app: &App,
    key: &Key,
    id: u32,
    request: Request,
    sender: &mpsc::Sender<Vec<u8>>,
    told: Heard,
) -> Result<(), Failure> {
    let Request { host, port } = request;
    if !LOCALHOST.contains(&host.as_str()) {
        return Err(Failure::Bad(format!(
            "{host} is not in the sandbox: only its localhost can be connected to"
        )));
    }
    let connected = app.on(key, move |engine, key| engine.connect(key, port));
    let connected = tokio::time::timeout(PATIENCE, connected).await;
    let connected = connected.map_err(|_| Failure::Bad(format!("Port {port} does not answer")))?;
    let Connection { stream, in_use: _in_use } = connected?;
    stream.set_nonblocking(true).map_err(Failure::other)?;
    let stream = UnixStream::from_std(stream).map_err(Failure::other)?;
    let (from, to) = tokio::io::split(stream);
    let _ = sender.send(message(id, "core.tcp.connected", false, &Nothing {})).await;
    // Each way has an end of its own.
    tokio::try_join!(receive(id, from, sender), pass_on(told, to)).map_err(Failure::other)?;
    Ok(())
}

async fn receive(
    id: u32,
    mut from: ReadHalf<UnixStream>,
    sender: &mpsc::Sender<Vec<u8>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = from.read(&mut buffer).await?;
        let frame = match read {
            0 => message(id, "core.tcp.eof", false, &Nothing {}),
            _ => message(id, "core.tcp.data", false, &Piece { data: Data(buffer[..read].to_vec()) }),
        };
        if sender.send(frame).await.is_err() || read == 0 {
            return Ok(());
        }
    }
}

async fn pass_on(mut told: Heard, mut to: WriteHalf<UnixStream>) -> std::io::Result<()> {
    while let Some(data) = told.data().await {
        if data.is_empty() {
            break;
        }
        to.write_all(&data).await?;
    }
    to.shutdown().await
}
