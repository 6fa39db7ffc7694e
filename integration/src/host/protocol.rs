//! The frames between the harness and the agent of the virtual host, over one virtio-serial port.
//!
//! Enters and leaves: bytes. A frame is a 12-byte header (command id, kind, payload length, each a little-endian `u32`)
//! and at most [`MAX_PAYLOAD`] bytes. Several commands share the port: each frame carries the id of its command, and
//! only standard input needs a window ([`STDIN_WINDOW`]), because the harness always reads.
//! This module must never know what a command does.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Largest payload of one frame, in bytes. With the header it fits the 32 KiB that Linux passes on in one virtio-serial buffer.
pub const MAX_PAYLOAD: usize = 32 * 1024 - HEADER;
/// Standard input that may be on its way to a command without its agent having said that it was taken, in bytes.
pub const STDIN_WINDOW: usize = 512 * 1024;
/// What a side sends first. The harness throws away all it reads until this and its own nonce come back: the port
/// may still hold what an earlier connection left.
pub const HELLO_MAGIC: &[u8; 8] = b"msbhello";

const HEADER: usize = 12;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Either way: [`HELLO_MAGIC`] and a nonce of 8 bytes, sent back as it came.
    Hello = 1,
    /// To the host: a [`Start`] in JSON.
    Start = 2,
    /// To the host: bytes for the command's standard input.
    Stdin = 3,
    /// To the host: standard input is at its end.
    StdinEnd = 4,
    /// To the host: a signal number, `u32`, for the command's process group.
    Signal = 5,
    /// To the host: rows and columns, `u16` each, of the command's terminal.
    Resize = 6,
    /// From the host: bytes from standard output, or from the terminal.
    Stdout = 7,
    /// From the host: bytes from standard error.
    Stderr = 8,
    /// From the host: so many bytes of standard input were taken, `u32`.
    Credit = 9,
    /// From the host: the exit code, `u32`, 128 + N after signal N. The last frame of a command.
    Exit = 10,
    /// From the host: the command could not be started; the reason as text. The last frame of a command.
    Failed = 11,
}

impl Kind {
    fn from_u32(value: u32) -> Option<Self> {
        use Kind::*;
        [Hello, Start, Stdin, StdinEnd, Signal, Resize, Stdout, Stderr, Credit, Exit, Failed]
            .into_iter()
            .find(|kind| *kind as u32 == value)
    }
}

/// A command to start in the host.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Start {
    /// Given to `sh -c`.
    pub script: String,
    /// Rows and columns, if the command gets a terminal of its own.
    pub terminal: Option<(u16, u16)>,
    /// Added to the agent's own environment.
    pub env: Vec<(String, String)>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The command it belongs to; 0 for hello.
    pub id: u32,
    /// What it says.
    pub kind: Kind,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What is wrong with the bytes read.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The port could not be read.
    #[error("The command channel could not be read")]
    Read(#[source] io::Error),
    /// A frame of no known kind: the two sides are of different builds, or out of step.
    #[error("Unknown frame kind {kind} on the command channel")]
    Kind {
        /// The number found.
        kind: u32,
    },
    /// A frame longer than [`MAX_PAYLOAD`].
    #[error("A frame of {length} bytes on the command channel, over the limit of {MAX_PAYLOAD}")]
    Length {
        /// The length found, in bytes.
        length: u32,
    },
}

impl Frame {
    /// A frame that carries one number.
    pub fn number(id: u32, kind: Kind, value: u32) -> Self {
        Self { id, kind, payload: value.to_le_bytes().to_vec() }
    }

    /// A hello with `nonce`.
    pub fn hello(nonce: u64) -> Self {
        let payload = [HELLO_MAGIC.as_slice(), &nonce.to_le_bytes()].concat();
        Self { id: 0, kind: Kind::Hello, payload }
    }

    /// The number it carries, if its payload is one.
    pub fn as_number(&self) -> Option<u32> {
        self.payload.as_slice().try_into().ok().map(u32::from_le_bytes)
    }

    /// The frame as bytes, in one piece, so that one write puts it on the port.
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a payload is at most MAX_PAYLOAD");
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&(self.kind as u32).to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Writes the frame whole.
    pub fn write(&self, port: &mut impl Write) -> io::Result<()> {
        port.write_all(&self.encode())
    }

    /// Reads one frame; `None` at the end of the stream between two frames.
    pub fn read(port: &mut impl Read) -> Result<Option<Self>, ProtocolError> {
        let mut header = [0_u8; HEADER];
        let first = loop {
            match port.read(&mut header) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(ProtocolError::Read)?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        port.read_exact(&mut header[first..]).map_err(ProtocolError::Read)?;
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (id, kind, length) = (word(0), word(4), word(8));
        let kind = Kind::from_u32(kind).ok_or(ProtocolError::Kind { kind })?;
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > MAX_PAYLOAD {
            return Err(ProtocolError::Length { length });
        }
        let mut payload = vec![0; size];
        port.read_exact(&mut payload).map_err(ProtocolError::Read)?;
        Ok(Some(Self { id, kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let frames = [
            Frame { id: 7, kind: Kind::Stdin, payload: vec![1; MAX_PAYLOAD] },
            Frame { id: u32::MAX, kind: Kind::StdinEnd, payload: Vec::new() },
            Frame::number(3, Kind::Exit, 137),
            Frame::hello(42),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut reader = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut reader).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut reader).unwrap(), None);
    }

    #[test]
    fn too_long_or_unknown_is_refused() {
        let mut bytes = Frame::number(1, Kind::Exit, 0).encode();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Frame::read(&mut bytes.as_slice()), Err(ProtocolError::Length { .. })));
        bytes[4] = 99;
        assert!(matches!(Frame::read(&mut bytes.as_slice()), Err(ProtocolError::Kind { kind: 99 })));
    }
}
