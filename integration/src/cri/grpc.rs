//! One call of gRPC over a unix socket: a request and an answer, each a message in a frame of HTTP/2.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::client;
use http::{HeaderMap, Method as Verb, Request};
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use super::schema::{Method, SchemaError};

/// Longest time of a call. A pod under emulation takes its time.
const PATIENCE: Duration = Duration::from_secs(110);

/// Before each message: one byte for compression, four for the length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// What was asked or answered.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Nobody listens.
    #[error("The socket can't be used")]
    Socket(#[from] io::Error),
    /// What carries it.
    #[error("HTTP/2 failed")]
    Http(#[from] h2::Error),
    /// It took too long.
    #[error("No answer came within {} s", PATIENCE.as_secs())]
    Late,
    /// The runtime's own word.
    #[error("code {code}: {message}")]
    Refused {
        /// gRPC's status code.
        code: String,
        /// Why.
        message: String,
    },
}

/// Calls `method` with a request as JSON at the runtime that listens at `socket`; gives its answer as JSON.
///
/// # Errors
/// When it can't be asked, or refuses.
pub fn call(socket: &Path, method: &str, request: &str) -> Result<String, CallError> {
    let method = Method::named(method)?;
    let message = method.request(request)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let exchanged = runtime.block_on(async {
        let exchange = tokio::time::timeout(PATIENCE, exchange(socket, &method.path, &message));
        exchange.await.map_err(|_| CallError::Late)?
    })?;
    Ok(method.answer(&exchanged)?)
}

async fn exchange(socket: &Path, path: &str, message: &[u8]) -> Result<Bytes, CallError> {
    let (client, connection) = client::handshake(UnixStream::connect(socket).await?).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = Request::builder()
        .method(Verb::POST)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("fixed headers and a plain path");
    let (answer, mut body) = client.send_request(request, false)?;
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).expect("a small message").to_be_bytes());
    frame.extend(message);
    body.send_data(frame.into(), true)?;
    let answer = answer.await?;
    // A refusal may come without any body.
    status(answer.headers())?;
    let mut body = answer.into_body();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        status(&trailers)?;
    }
    bytes.advance(PREFIX.min(bytes.len()));
    Ok(bytes.freeze())
}

fn status(headers: &HeaderMap) -> Result<(), CallError> {
    let word =
        |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match word("grpc-status") {
        Some(code) if code != "0" => {
            Err(CallError::Refused { code, message: word("grpc-message").unwrap_or_default() })
        }
        _ => Ok(()),
    }
}
