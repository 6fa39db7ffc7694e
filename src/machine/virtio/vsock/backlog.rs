//! Bytes of the guest that the host's socket did not take yet.
//!
//! Enters: what is left of a packet after writing. Leaves: the same bytes, in order, when the socket takes them.
//! It has no limit of its own: the connection lets in only what it advertised (`buf_alloc`).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use super::packet::Payload;

/// A queue of bytes that holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// Bytes at the front that were written already.
    start: usize,
}

impl Backlog {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what is left of a packet.
    pub fn append(&mut self, payload: &Payload<'_>) {
        // Moving the rest to the front only when it is the smaller half keeps the moves below the bytes written.
        if self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        payload.append_to(&mut self.bytes);
    }

    /// Writes what the socket takes now; the number of bytes. An error is the stream's end.
    pub fn flush(&mut self, mut socket: &UnixStream) -> io::Result<usize> {
        let mut written = 0;
        while !self.is_empty() {
            match socket.write(&self.bytes[self.start..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.start += count;
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                Err(error) => return Err(error),
            }
        }
        *self = Self::default();
        Ok(written)
    }
}
