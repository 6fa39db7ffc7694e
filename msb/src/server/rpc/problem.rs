//! What went wrong with a call, and how it is told: in a flat object where the call itself is at fault, as its clients have
//! always been told, and as an error of JSON-RPC with the real cause where the sandbox is.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::super::{auth::Refused, journal::About};
use crate::{
    name::BadName,
    sandbox::{BadRequest, Failure},
};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// JSON-RPC 2.0, section 4: its version is not 2.0.
    #[error("Invalid or missing jsonrpc version field")]
    Version,
    /// Nothing that there is.
    #[error("Method not found: {0}")]
    Method(String),
    /// Who asks may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It can't be as it is asked for.
    #[error("{0}")]
    Bad(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The sandbox did not do it.
    #[error("{message}")]
    Failed {
        /// The cause.
        message: String,
        /// What is known beside.
        data: Option<Value>,
    },
}

/// Of JSON-RPC 2.0, section 5.1.
const INVALID_REQUEST: i32 = -32600;
/// Of JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i32 = -32601;
/// The first that JSON-RPC 2.0, section 5.1, leaves to servers.
const FAILED: i32 = -32000;

impl Problem {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), data: None }
    }

    /// As it is answered to the call with this `id`.
    pub(crate) fn response(&self, id: Option<&Value>) -> Response {
        let mut response = self.shaped(id);
        About::add(&mut response, |about| about.cause = Some(self.to_string()));
        response
    }

    /// There is too much to do.
    pub(crate) fn busy() -> Response {
        let text = json!({ "error": "Too many requests at once: try again", "code": null });
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(text)).into_response()
    }

    fn shaped(&self, id: Option<&Value>) -> Response {
        let text = self.to_string();
        let flat = |status: StatusCode, code: u16| {
            (status, Json(json!({ "error": text, "code": code }))).into_response()
        };
        let rpc = |status: StatusCode, code: i32, data: Option<&Value>| {
            (status, Json(error(code, &text, data, id))).into_response()
        };
        match self {
            Self::Version => rpc(StatusCode::BAD_REQUEST, INVALID_REQUEST, None),
            Self::Method(_) => rpc(StatusCode::NOT_FOUND, METHOD_NOT_FOUND, None),
            Self::Refused(Refused::Credentials) => flat(StatusCode::UNAUTHORIZED, 1001),
            Self::Refused(Refused::Token) => flat(StatusCode::UNAUTHORIZED, 1004),
            Self::Refused(Refused::Denied) => flat(StatusCode::FORBIDDEN, 3001),
            Self::Bad(_) => flat(StatusCode::BAD_REQUEST, 2001),
            Self::NotFound(_) => flat(StatusCode::NOT_FOUND, 4001),
            Self::Failed { data, .. } => rpc(StatusCode::OK, FAILED, data.as_ref()),
        }
    }
}

/// An answer that something went wrong. What is not there is left out: there are clients that take a null for an error.
pub(crate) fn error(code: i32, message: &str, data: Option<&Value>, id: Option<&Value>) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data.clone();
    }
    let mut answer = json!({ "jsonrpc": "2.0", "error": error });
    if let Some(id) = id {
        answer["id"] = id.clone();
    }
    answer
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSandbox(key) => {
                Self::NotFound(format!("Sandbox '{}' not found in namespace '{}'", key.name, key.namespace))
            }
            Failure::NoNamespace(name) => Self::Bad(format!("Namespace directory '{name}' does not exist")),
            Failure::Exists(_)
            | Failure::Bad(_)
            | Failure::Runs(_)
            | Failure::Elsewhere(_)
            | Failure::NoVolume(_)
            | Failure::VolumeExists(_)
            | Failure::VolumeUsed(..) => Self::Bad(failure.to_string()),
            Failure::NotRunning(_) | Failure::NoProgram { .. } | Failure::Other(_) => {
                Self::failed(failure.chain())
            }
        }
    }
}

impl From<BadName> for Problem {
    fn from(bad: BadName) -> Self {
        Self::Bad(bad.to_string())
    }
}

impl From<BadRequest> for Problem {
    fn from(bad: BadRequest) -> Self {
        Self::Bad(bad.to_string())
    }
}
