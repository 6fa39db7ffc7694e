//! Questions and answers about names on a stream, as name servers frame them over TCP.

use std::io::{self, Read, Write};

/// Reads one message: two bytes of length, most significant first, and the message (RFC 1035, section 4.2.2).
///
/// # Errors
/// The stream's.
pub fn read(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Writes one.
///
/// # Errors
/// The stream's, or [`io::ErrorKind::InvalidInput`] for a message of more than 65535 bytes.
pub fn write(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
