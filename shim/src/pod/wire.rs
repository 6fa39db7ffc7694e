//! Protobuf's bytes as fields, for messages that containerd passes on and no crate of ours has.

use std::collections::BTreeMap;

use containerd_shim_protos::protobuf::{CodedInputStream, Error, rt};

/// What a field holds, by its wire type; the others are in none of these messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    /// Numbers, switches, names of an enumeration.
    Number(u64),
    /// Text, and messages within.
    Bytes(Vec<u8>),
}

/// The wire types (protobuf, "Encoding").
const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

/// The fields of one message, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<(u32, Value)>);

impl Message {
    /// Of its bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = CodedInputStream::from_bytes(bytes);
        let mut fields = Vec::new();
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            let value = match tag & 7 {
                VARINT => Value::Number(input.read_raw_varint64()?),
                LENGTH_DELIMITED => Value::Bytes(input.read_bytes()?),
                _ => {
                    rt::skip_field_for_tag(tag, &mut input)?;
                    continue;
                }
            };
            fields.push((tag >> 3, value));
        }
        Ok(Self(fields))
    }

    /// The last of a field counts.
    fn last(&self, field: u32) -> Option<&Value> {
        self.all(field).last()
    }

    fn all(&self, field: u32) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|(_, value)| value)
    }

    /// A number; 0 where there is none.
    pub fn number(&self, field: u32) -> i64 {
        match self.last(field) {
            Some(Value::Number(number)) => number.cast_signed(),
            Some(Value::Bytes(_)) | None => 0,
        }
    }

    /// A text; empty where there is none.
    pub fn text(&self, field: u32) -> String {
        self.texts(field).pop().unwrap_or_default()
    }

    /// All texts of a field.
    pub fn texts(&self, field: u32) -> Vec<String> {
        self.bytes(field).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    fn bytes(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        self.all(field).filter_map(|value| match value {
            Value::Bytes(bytes) => Some(bytes.as_slice()),
            Value::Number(_) => None,
        })
    }

    /// The message within a field, if there is one.
    pub fn message(&self, field: u32) -> Result<Option<Self>, Error> {
        self.bytes(field).last().map(Self::read).transpose()
    }

    /// A `map<string, string>`: messages of a key and a value.
    pub fn map(&self, field: u32) -> Result<BTreeMap<String, String>, Error> {
        let entry = |bytes| Self::read(bytes).map(|entry| (entry.text(1), entry.text(2)));
        self.bytes(field).map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_others() {
        // 1: 150, 2: "ab", 3: {1: "k", 2: "v"}, 4: four bytes of a kind that is passed over, 2: "c"
        let bytes = b"\x08\x96\x01\x12\x02ab\x1a\x06\x0a\x01k\x12\x01v\x25\0\0\0\0\x12\x01c";
        let message = Message::read(bytes).unwrap();
        assert_eq!((message.number(1), message.number(2), message.number(9)), (150, 0, 0));
        assert_eq!((message.text(2).as_str(), message.texts(2)), ("c", vec!["ab".to_owned(), "c".into()]));
        assert_eq!(message.map(3).unwrap(), BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        assert_eq!(message.message(3).unwrap().unwrap().text(1), "k");
        assert_eq!(message.message(4).unwrap(), None);
        for cut in [1, 2, 4, 6, 8, 16] {
            assert!(Message::read(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
