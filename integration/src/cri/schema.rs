//! The interface's calls: JSON to protobuf's bytes and back.

use std::fs;
use std::io;

use protobuf::reflect::{FileDescriptor, MessageDescriptor};
use protobuf_json_mapping::{ParseError, PrintError, PrintOptions};
use protobuf_parse::Parser;

const SCHEMA: &str = include_str!("runtime.proto");
const SERVICE: &str = "runtime.v1.RuntimeService";

/// Why a message can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The parser wants a file.
    #[error("The schema can't be written to a temporary file")]
    File(#[from] io::Error),
    /// A fault in `runtime.proto`.
    #[error("runtime.proto can't be understood: {0}")]
    Schema(String),
    /// It is not in `runtime.proto`.
    #[error("The interface has no call {0}")]
    Method(String),
    /// A field that the request has not, or of another type.
    #[error("The request is not what the call takes")]
    Request(#[from] ParseError),
    /// The answer's bytes.
    #[error("The answer can't be understood")]
    Answer(#[from] protobuf::Error),
    /// The answer's JSON.
    #[error("The answer can't be told")]
    Told(#[from] PrintError),
}

/// One call.
#[derive(Debug)]
pub struct Method {
    /// Its path in gRPC.
    pub path: String,
    request: MessageDescriptor,
    answer: MessageDescriptor,
}

impl Method {
    /// The call of a name.
    pub fn named(name: &str) -> Result<Self, SchemaError> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("runtime.proto");
        fs::write(&path, SCHEMA)?;
        let schema = |error: &dyn std::fmt::Display| SchemaError::Schema(error.to_string());
        let parsed = Parser::new().pure().include(folder.path()).input(&path).file_descriptor_set();
        let parsed = parsed.map_err(|error| schema(&format!("{error:#}")))?;
        let file = parsed.file.into_iter().next().ok_or_else(|| schema(&"it is empty"))?;
        let file = FileDescriptor::new_dynamic(file, &[]).map_err(|error| schema(&error))?;
        let services: Vec<_> = file.services().collect();
        let method = services
            .iter()
            .flat_map(|service| service.methods())
            .find(|method| method.proto().name() == name)
            .ok_or_else(|| SchemaError::Method(name.to_owned()))?;
        Ok(Self {
            path: format!("/{SERVICE}/{name}"),
            request: method.input_type(),
            answer: method.output_type(),
        })
    }

    /// A request's bytes.
    pub fn request(&self, json: &str) -> Result<Vec<u8>, SchemaError> {
        Ok(protobuf_json_mapping::parse_dyn_from_str(&self.request, json)?.write_to_bytes_dyn()?)
    }

    /// What an answer's bytes say; fields that are not given have their default.
    pub fn answer(&self, bytes: &[u8]) -> Result<String, SchemaError> {
        let mut answer = self.answer.new_instance();
        answer.merge_from_bytes_dyn(bytes)?;
        let options = PrintOptions {
            proto_field_name: true,
            always_output_default_values: true,
            ..PrintOptions::default()
        };
        Ok(protobuf_json_mapping::print_to_string_with_options(&*answer, &options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_into_bytes_and_comes_back() {
        let method = Method::named("ExecSync").unwrap();
        assert_eq!(method.path, "/runtime.v1.RuntimeService/ExecSync");
        let bytes = method.request(r#"{"container_id": "a", "cmd": ["ls"], "timeout": 5}"#).unwrap();
        assert_eq!(bytes, b"\x0a\x01a\x12\x02ls\x18\x05");
        let told = method.answer(b"\x0a\x02hi\x18\x03").unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told, serde_json::json!({"stdout": "aGk=", "stderr": "", "exit_code": 3}));
        assert!(matches!(method.request(r#"{"nonsense": 1}"#), Err(SchemaError::Request(_))));
        assert!(matches!(Method::named("Nonsense"), Err(SchemaError::Method(_))));
    }
}
