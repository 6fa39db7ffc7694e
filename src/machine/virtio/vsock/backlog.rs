//! Bytes of the guest that the host's socket did not take yet.
//!
//! Enters: what is left of a packet after writing. Leaves: the same bytes, in order, when the socket takes them.
//! It has no limit of its own: the connection lets in only what it advertised (`buf_alloc`).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use super::packet::Payload;

/// A queue of bytes that holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Backlog(VecDeque<u8>);

impl Backlog {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends what is left of a packet.
    pub fn append(&mut self, payload: &Payload<'_>) {
        payload.append_to(&mut self.0);
    }

    /// Writes what the socket takes now; the number of bytes. An error is the stream's end.
    pub fn flush(&mut self, mut socket: &UnixStream) -> io::Result<usize> {
        let before = self.len();
        while !self.is_empty() {
            // The first of the two parts is never empty when there is anything.
            match socket.write(self.0.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.0.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(before - self.len()),
                Err(error) => return Err(error),
            }
        }
        *self = Self::default();
        Ok(before)
    }
}
