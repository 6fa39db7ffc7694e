//! Frames: a `u32` length, little endian, then that many bytes of one postcard message.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Largest message in bytes. A container with hundreds of mounts stays well below; what claims more is refused
/// before a byte of it is read.
pub const MAX_FRAME: usize = 8 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("The stream failed")]
    Stream(#[source] io::Error),
    /// The stream ended between two frames.
    #[error("The other side closed the stream")]
    Closed,
    /// Longer than [`MAX_FRAME`].
    #[error("A message of {length} bytes is longer than the {MAX_FRAME} allowed")]
    TooLong {
        /// What was claimed or would be needed, in bytes.
        length: usize,
    },
    /// Not a message of this protocol.
    #[error("The message can't be understood")]
    Malformed(#[source] postcard::Error),
}

/// One message as a whole frame.
///
/// # Errors
/// [`FrameError::TooLong`], and [`FrameError::Malformed`] for what postcard can't express.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(FrameError::Malformed)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_FRAME => frame[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(FrameError::TooLong { length }),
    }
    Ok(frame)
}

/// The message in a frame's body.
///
/// # Errors
/// [`FrameError::Malformed`], also for bytes left over.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    match postcard::take_from_bytes(body).map_err(FrameError::Malformed)? {
        (message, []) => Ok(message),
        _ => Err(FrameError::Malformed(postcard::Error::DeserializeBadEncoding)),
    }
}

/// Writes one message as a frame.
///
/// # Errors
/// As [`encode`], and [`FrameError::Stream`].
pub fn write<M: Serialize>(stream: &mut impl Write, message: &M) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).map_err(FrameError::Stream)
}

/// Reads one message.
///
/// # Errors
/// [`FrameError::Closed`] at the end of the stream; every other error leaves the stream unusable.
pub fn read<M: DeserializeOwned>(stream: &mut impl Read) -> Result<M, FrameError> {
    let mut prefix = [0; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match stream.read(&mut prefix[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Stream(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Stream(error)),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length });
    }
    // Grown while bytes arrive: a claimed length alone must not cost memory.
    let mut body = Vec::with_capacity(length.min(64 << 10));
    let count = stream
        .by_ref()
        .take(u64::from(u32::from_le_bytes(prefix)))
        .read_to_end(&mut body)
        .map_err(FrameError::Stream)?;
    if count < length {
        return Err(FrameError::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    decode(&body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{FromAgent, Hello};

    #[test]
    fn a_message_comes_back() {
        let hello = FromAgent::Hello(Hello { version: 7 });
        let mut wire = Vec::new();
        write(&mut wire, &hello).unwrap();
        let mut rest = wire.as_slice();
        assert_eq!(read::<FromAgent>(&mut rest).unwrap(), hello);
        assert!(matches!(read::<FromAgent>(&mut rest), Err(FrameError::Closed)));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_unread() {
        let wire = u32::MAX.to_le_bytes();
        assert!(matches!(read::<FromAgent>(&mut wire.as_slice()), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error() {
        let wire = [9, 0, 0, 0, 1];
        assert!(matches!(read::<FromAgent>(&mut wire.as_slice()), Err(FrameError::Stream(_))));
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut frame = encode(&FromAgent::Hello(Hello { version: 1 })).unwrap();
        frame.push(0);
        assert!(matches!(decode::<FromAgent>(&frame[4..]), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_message(wire in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read::<FromAgent>(&mut wire.as_slice());
            let _ = decode::<crate::protocol::ToAgent>(&wire);
        }
    }
}
