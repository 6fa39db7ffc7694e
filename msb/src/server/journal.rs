//! What the server says of itself: a JSON object on a line of its stderr for each request, and for what it does unasked.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

/// Writes a line. That nobody reads it any more is no reason to stop.
pub(crate) fn say(message: &str, more: Value) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = Map::new();
    line.insert("time".into(), since.as_secs_f64().into());
    line.insert("message".into(), message.into());
    if let Value::Object(more) = more {
        line.extend(more);
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    let _ = io::stderr().write_all(text.as_bytes());
}
