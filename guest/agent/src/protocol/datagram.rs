//! Datagrams on a stream: each behind its length in two bytes, most significant first.

use std::io::{self, Read, Write};

/// Bytes of the longest.
pub const MAX_DATAGRAM: usize = u16::MAX as usize;

/// Writes one, at once: whoever waits for it waits for all of it.
///
/// # Errors
/// The stream's; that it is longer than [`MAX_DATAGRAM`].
pub fn write_datagram(mut stream: impl Write, datagram: &[u8]) -> io::Result<()> {
    let length = u16::try_from(datagram.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut whole = Vec::with_capacity(2 + datagram.len());
    whole.extend(length.to_be_bytes());
    whole.extend(datagram);
    stream.write_all(&whole)
}

/// Reads one; none: the stream has ended.
///
/// # Errors
/// The stream's; that it ends within one.
pub fn read_datagram(mut stream: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    stream.read_exact(&mut length[1..])?;
    let mut datagram = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut datagram)?;
    Ok(Some(datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeps_its_length() {
        let longest = vec![7; MAX_DATAGRAM];
        let mut stream = Vec::new();
        for datagram in [&b"one"[..], b"", &longest] {
            write_datagram(&mut stream, datagram).unwrap();
        }
        write_datagram(&mut stream, &[0; MAX_DATAGRAM + 1]).unwrap_err();
        let mut rest = stream.as_slice();
        for datagram in [&b"one"[..], b"", &longest] {
            assert_eq!(read_datagram(&mut rest).unwrap().as_deref(), Some(datagram));
        }
        assert_eq!(read_datagram(&mut rest).unwrap(), None);
        for cut in [1, 2, 4] {
            read_datagram(&stream[..cut]).unwrap_err();
        }
    }
}
