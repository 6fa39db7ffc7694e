//! Frames of the stream to an agent, generation 7: a length, an id, flags, and a map of CBOR (RFC 8949) in which another one
//! is packed as bytes.

use ciborium::value::Value;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

/// The generation that is spoken here.
pub(super) const GENERATION: u8 = 7;
/// Bytes of a frame, its length not counted.
const LARGEST: usize = 4 << 20;
/// The id and the flags.
const HEAD: usize = 5;
/// This message is the last of its id.
const TERMINAL: u8 = 1;

/// A message, its payload not read yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub id: u32,
    pub kind: String,
    payload: Vec<u8>,
}

/// Bytes, which serde would take for a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Data(pub Vec<u8>);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bytes(bytes) => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom("these are no bytes")),
        }
    }
}

/// A piece of what is read or written.
#[derive(Serialize, Deserialize)]
pub(super) struct Piece {
    pub data: Data,
}

#[derive(Serialize, Deserialize)]
struct Body {
    v: u8,
    t: String,
    p: Data,
}

/// A stream that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    #[error("A frame of {0} bytes")]
    Length(usize),
    #[error("A frame that is no message")]
    Body,
}

/// Takes the next frame from what has come; none: it is not all there.
pub(super) fn take(from: &mut Vec<u8>) -> Result<Option<Frame>, BadFrame> {
    let Some((length, _)) = from.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(HEAD..=LARGEST).contains(&length) {
        return Err(BadFrame::Length(length));
    }
    let Some(frame) = from.get(4..4 + length) else { return Ok(None) };
    let (id, rest) = frame.split_first_chunk::<4>().ok_or(BadFrame::Body)?;
    let body: Body = ciborium::from_reader(&rest[1..]).map_err(|_| BadFrame::Body)?;
    let frame = Frame { id: u32::from_be_bytes(*id), kind: body.t, payload: body.p.0 };
    from.drain(..4 + length);
    Ok(Some(frame))
}

impl Frame {
    /// What it says.
    pub(super) fn payload<T: DeserializeOwned>(&self) -> Result<T, BadFrame> {
        ciborium::from_reader(self.payload.as_slice()).map_err(|_| BadFrame::Body)
    }
}

/// A message as it is sent. That it is written to memory can't fail, and what is sent here is small.
pub(super) fn message<T: Serialize>(id: u32, kind: &str, last: bool, payload: &T) -> Vec<u8> {
    let mut inner = Vec::new();
    let mut body = Vec::new();
    let written = ciborium::into_writer(payload, &mut inner).and_then(|()| {
        ciborium::into_writer(&Body { v: GENERATION, t: kind.to_owned(), p: Data(inner) }, &mut body)
    });
    debug_assert!(written.is_ok(), "memory takes everything");
    let length = u32::try_from(HEAD + body.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(4 + HEAD + body.len());
    frame.extend(length.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.push(if last { TERMINAL } else { 0 });
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_comes_back_in_pieces() {
        let sent =
            [message(7, "core.x", true, &Data(vec![1, 2])), message(8, "core.y", false, &Data(Vec::new()))]
                .concat();
        let mut held = Vec::new();
        let mut seen = Vec::new();
        for byte in sent {
            held.push(byte);
            seen.extend(take(&mut held).unwrap());
        }
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].id, seen[0].kind.as_str()), (7, "core.x"));
        assert_eq!(seen[0].payload::<Data>().unwrap(), Data(vec![1, 2]));
        seen[0].payload::<String>().unwrap_err();
        assert_eq!(take(&mut vec![0, 0, 0, 1]), Err(BadFrame::Length(1)));
        assert_eq!(take(&mut vec![255; 4]), Err(BadFrame::Length(u32::MAX as usize)));
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let length = u32::try_from(bytes.len()).unwrap();
            let _ = take(&mut bytes.clone());
            let mut framed = length.to_be_bytes().to_vec();
            framed.append(&mut bytes);
            let _ = take(&mut framed);
        }
    }
}
