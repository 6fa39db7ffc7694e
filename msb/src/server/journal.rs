//! What the server says of itself: a JSON object on a line of its stderr for each request, and for what it does unasked.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::log::Own;

/// Where stderr leads, if that is ours.
static OWN: OnceLock<Option<Own>> = OnceLock::new();

/// What is known of a request beside its line: handlers leave it with their answer.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct About {
    /// Of JSON-RPC, or a tool of MCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Which one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// The namespace of the key; none: a key to all, or no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl About {
    /// Adds to what is known of a request by its answer. What callers sent is cut.
    pub(crate) fn add(response: &mut Response, what: impl FnOnce(&mut Self)) {
        what(response.extensions_mut().get_or_insert_default());
    }

    /// The sandbox that parameters name, of whatever shape they are.
    pub(crate) fn sandbox_of(params: &Value) -> Option<String> {
        let text = |name: &str| params[name].as_str().map(|text| text.chars().take(64).collect::<String>());
        let sandbox = text("sandbox")?;
        Some(text("namespace").map_or(sandbox.clone(), |namespace| format!("{namespace}/{sandbox}")))
    }
}

/// Both in one object.
pub(crate) fn joined(mut line: Value, more: &impl Serialize) -> Value {
    if let (Value::Object(line), Ok(Value::Object(more))) = (&mut line, serde_json::to_value(more)) {
        line.extend(more);
    }
    line
}

/// Writes a line. That nobody reads it any more is no reason to stop.
pub(crate) fn say(message: &str, more: Value) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = Map::new();
    line.insert("time".into(), since.as_secs_f64().into());
    line.insert("message".into(), message.into());
    if let Value::Object(more) = more {
        line.extend(more);
    }
    // A person follows it.
    let mut text = msb_runtime::plain::json(&Value::Object(line).to_string());
    text.push('\n');
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    if let Some(Some(own)) = OWN.get() {
        // There is nobody else to tell.
        let _ = own.turn(&stderr);
    }
}

/// That the log of a server in the background is at `path`: if this is one, its log has a limit.
pub(crate) fn keep(path: PathBuf) {
    OWN.get_or_init(|| Own::at(path));
}
