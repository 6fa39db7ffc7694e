//! The streams of exec, attach and port-forward: channels in one WebSocket, `v4.channel.k8s.io`.
//!
//! Each message's first byte is its channel. That version of the protocol has no end of the input: who wants one says so
//! in what it sends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

const PROTOCOL: &str = "v4.channel.k8s.io";

/// Of exec and attach.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Of the first port that is forwarded. The second is for what went wrong.
const DATA: u8 = 0;
const PROBLEM: u8 = 1;
/// Each channel of a port begins with the port's number.
const PORT_BYTES: usize = 2;

/// How often input is looked for.
const TURN: Duration = Duration::from_millis(20);

/// Why a stream ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Nobody listens, or a stream of ours.
    #[error("A stream can't be read or written")]
    Io(#[from] io::Error),
    /// What carries it.
    #[error("The WebSocket failed")]
    Socket(#[from] Box<tungstenite::Error>),
    /// No `http://HOST:PORT/…`.
    #[error("{0:?} is no address of a stream")]
    Address(String),
    /// It says why.
    #[error("{0}")]
    Refused(String),
    /// The status is in no known form.
    #[error("The status {text:?} can't be understood")]
    Status {
        /// As it came.
        text: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl From<tungstenite::Error> for StreamError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Socket(Box::new(error))
    }
}

/// A terminal's, as the runtime wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In cells.
    pub width: u16,
    /// In cells.
    pub height: u16,
}

/// What an exec tells at its end: Kubernetes' `Status`.
#[derive(Debug, Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    reason: String,
    message: String,
}

/// The exit code that a status tells.
fn exit_code(text: &str) -> Result<i32, StreamError> {
    let status: Status =
        serde_json::from_str(text).map_err(|source| StreamError::Status { text: text.to_owned(), source })?;
    if status.status == "Success" {
        return Ok(0);
    }
    let code = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
    match code.and_then(|cause| cause.message.parse().ok()) {
        Some(code) => Ok(code),
        None => Err(StreamError::Refused(status.message)),
    }
}

/// Joins our own standard streams to those of an exec or an attach at `url`. Returns the exit code, 0 for an attach that
/// has ended.
///
/// # Errors
/// When the stream fails, or the exec could not be made.
pub fn attach(url: &str, size: Option<Size>) -> Result<i32, StreamError> {
    let mut socket = open(url)?;
    if let Some(Size { width, height }) = size {
        let told = format!(r#"{{"Width":{width},"Height":{height}}}"#);
        send(&mut socket, RESIZE, told.as_bytes())?;
    }
    let input = input();
    let mut code = 0;
    loop {
        pass_on(&mut socket, STDIN, &input)?;
        match receive(&mut socket)? {
            Received::Nothing => {}
            Received::End => break,
            Received::Message(STDOUT, bytes) => write(&mut io::stdout(), &bytes)?,
            Received::Message(STDERR, bytes) => write(&mut io::stderr(), &bytes)?,
            Received::Message(STATUS, bytes) if !bytes.is_empty() => {
                code = exit_code(&String::from_utf8_lossy(&bytes))?;
            }
            Received::Message(..) => {}
        }
    }
    Ok(code)
}

/// Writes what comes first at `url`, an attach's, within `patience`.
///
/// # Errors
/// When the stream fails, or nothing comes.
pub fn watch(url: &str, patience: Duration) -> Result<(), StreamError> {
    let mut socket = open(url)?;
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match receive(&mut socket)? {
            Received::Message(STDOUT | STDERR, bytes) if !bytes.is_empty() => {
                return Ok(write(&mut io::stdout(), &bytes)?);
            }
            Received::End => break,
            Received::Nothing | Received::Message(..) => {}
        }
    }
    Err(StreamError::Refused("Nothing has come".into()))
}

/// Joins them to the one port that `url` forwards, until the other side ends.
///
/// # Errors
/// When the stream fails, or the port can't be reached.
pub fn forward(url: &str) -> Result<(), StreamError> {
    let mut socket = open(url)?;
    let input = input();
    let mut begun = [false; 2];
    loop {
        pass_on(&mut socket, DATA, &input)?;
        let (channel, mut bytes) = match receive(&mut socket)? {
            Received::Nothing => continue,
            Received::End => return Ok(()),
            Received::Message(channel, bytes) => (channel, bytes),
        };
        if let Some(begun) = begun.get_mut(usize::from(channel)).filter(|begun| !**begun) {
            *begun = true;
            bytes.drain(..PORT_BYTES.min(bytes.len()));
        }
        match channel {
            DATA => write(&mut io::stdout(), &bytes)?,
            PROBLEM if !bytes.is_empty() => {
                return Err(StreamError::Refused(String::from_utf8_lossy(&bytes).into_owned()));
            }
            _ => {}
        }
    }
}

fn open(url: &str) -> Result<WebSocket<TcpStream>, StreamError> {
    let address = || StreamError::Address(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(address)?;
    let host = rest.split('/').next().ok_or_else(address)?;
    let mut request = format!("ws://{rest}").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    let stream = TcpStream::connect(host)?;
    let (socket, _) = tungstenite::client(request, stream)
        .map_err(|error| StreamError::Refused(format!("The runtime does not take the stream: {error}")))?;
    socket.get_ref().set_read_timeout(Some(TURN))?;
    Ok(socket)
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn send(socket: &mut WebSocket<TcpStream>, channel: u8, bytes: &[u8]) -> Result<(), StreamError> {
    Ok(socket.send(Message::binary([&[channel], bytes].concat()))?)
}

/// Our standard input, as it comes; waiting for it must not keep the output waiting.
fn input() -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 14];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn pass_on(
    socket: &mut WebSocket<TcpStream>,
    channel: u8,
    input: &Receiver<Vec<u8>>,
) -> Result<(), StreamError> {
    loop {
        match input.try_recv() {
            Ok(bytes) => send(socket, channel, &bytes)?,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

enum Received {
    Nothing,
    Message(u8, Vec<u8>),
    End,
}

fn receive(socket: &mut WebSocket<TcpStream>) -> Result<Received, StreamError> {
    let message = match socket.read() {
        Ok(Message::Binary(bytes)) => bytes,
        Ok(Message::Close(_)) => return Ok(Received::End),
        Ok(_) => return Ok(Received::Nothing),
        Err(tungstenite::Error::Io(error))
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            return Ok(Received::Nothing);
        }
        Err(
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            // Not every server says that it closes.
            | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake),
        ) => return Ok(Received::End),
        Err(error) => return Err(error.into()),
    };
    Ok(match message.split_first() {
        Some((channel, bytes)) => Received::Message(*channel, bytes.to_vec()),
        None => Received::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_from_a_failure() {
        assert_eq!(exit_code(r#"{"metadata":{},"status":"Success"}"#).unwrap(), 0);
        let told = r#"{"status":"Failure","message":"command terminated","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(exit_code(told).unwrap(), 7);
        let failed = exit_code(r#"{"status":"Failure","message":"no such container"}"#);
        assert_eq!(failed.unwrap_err().to_string(), "no such container");
        assert!(matches!(exit_code("nonsense"), Err(StreamError::Status { .. })));
    }
}
