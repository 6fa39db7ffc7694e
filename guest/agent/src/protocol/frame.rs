//! Frames: a `u32` length, little endian, then that many bytes of one postcard message.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use super::{Hello, VERSION};

/// Largest message in bytes. A container with hundreds of mounts stays well below; what claims more is refused
/// before a byte of it is read.
pub const MAX_FRAME: usize = 8 << 20;
/// Largest message that a host takes from an agent. The longest honest one is an answer with [`super::ProcessInfo::MAX`] processes; what
/// is decoded of a hostile one takes ten to twenty times as much memory.
pub const MAX_FROM_AGENT: usize = 2 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("The stream failed")]
    Stream(#[source] io::Error),
    /// The stream ended between two frames.
    #[error("The other side closed the stream")]
    Closed,
    /// Longer than [`MAX_FRAME`], or than what this side takes.
    #[error("A message of {length} bytes is longer than the {limit} allowed")]
    TooLong {
        /// What was claimed or would be needed, in bytes.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The other side speaks of other messages.
    #[error("The other side speaks version {theirs}, and this one {VERSION}")]
    Version {
        /// Its version.
        theirs: u32,
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
        _ => return Err(FrameError::TooLong { length, limit: MAX_FRAME }),
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

/// Writes the first message to who does not know yet which version this side speaks.
///
/// # Errors
/// As [`write`].
pub fn write_first<M: Serialize>(stream: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let frames = [encode(&Hello { version: VERSION })?, encode(message)?].concat();
    stream.write_all(&frames).map_err(FrameError::Stream)
}

/// Reads what [`write_first`] wrote.
///
/// # Errors
/// As [`read`]; [`FrameError::Version`], and then the message was not read.
pub fn read_first<M: DeserializeOwned>(stream: &mut impl Read) -> Result<M, FrameError> {
    match read(stream)? {
        Hello { version: VERSION } => read(stream),
        Hello { version: theirs } => Err(FrameError::Version { theirs }),
    }
}

/// Reads one message.
///
/// # Errors
/// [`FrameError::Closed`] at the end of the stream; every other error leaves the stream unusable.
pub fn read<M: DeserializeOwned>(stream: &mut impl Read) -> Result<M, FrameError> {
    read_within(stream, MAX_FRAME)
}

/// Reads one message of at most `limit` bytes.
///
/// # Errors
/// As [`read`].
pub fn read_within<M: DeserializeOwned>(stream: &mut impl Read, limit: usize) -> Result<M, FrameError> {
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
    if length > limit {
        return Err(FrameError::TooLong { length, limit });
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
    fn another_version_is_told_before_anything_else_is_read() {
        let mut wire = Vec::new();
        write_first(&mut wire, &7_u16).unwrap();
        assert_eq!(read_first::<u16>(&mut &*wire).unwrap(), 7);
        let mut wire = encode(&Hello { version: VERSION + 1 }).unwrap();
        // Whatever it is: it may mean something else there.
        wire.extend([0xff; 9]);
        let error = read_first::<u16>(&mut &*wire).unwrap_err();
        assert!(matches!(error, FrameError::Version { theirs } if theirs == VERSION + 1), "{error}");
    }

    #[test]
    fn the_longest_honest_answer_is_taken_from_an_agent() {
        use crate::protocol::{ProcessInfo, Reply, Request};
        let one = ProcessInfo {
            pid: u32::MAX,
            parent: u32::MAX,
            uid: u32::MAX,
            state: 'S',
            name: "n".repeat(45),
            args: Vec::new(),
            started: 1 << 34,
            cpu: 1 << 40,
            resident: 1 << 40,
        };
        let mut all = vec![one; ProcessInfo::MAX];
        all[0].args = vec![String::new(); ProcessInfo::MAX_ALL_ARGS];
        assert!(Request::Processes.takes(&Reply::Processes(all.clone())));
        let reply = encode(&FromAgent::Reply { id: u32::MAX, result: Ok(Reply::Processes(all)) }).unwrap();
        assert!(reply.len() <= MAX_FROM_AGENT, "{}", reply.len());
        let short = read_within::<FromAgent>(&mut &*reply, reply.len() - 5).unwrap_err();
        assert!(matches!(short, FrameError::TooLong { .. }));
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
