//! What went wrong, in the words that these clients look for.

use axum::{
    Extension, Json,
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    name::BadName,
    sandbox::{BadRequest, Failure},
    server::{app::App, auth::Refused, body, journal::About},
};

/// What a request's body asks for; where it is JSON of another shape, it is none of what `otherwise` says that it is none of.
pub(super) async fn asked<T: DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    otherwise: &str,
) -> Result<T, Response> {
    body::json(&app.config.limits, headers, body).await.map_err(|refused| match refused.status() {
        StatusCode::UNPROCESSABLE_ENTITY => Problem::Request(otherwise.to_owned()).into_response(),
        _ => refused,
    })
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Config(String),
    #[error("There is no sandbox {0}")]
    NotFound(String),
    #[error("{0}")]
    NoVolume(String),
    #[error("{0}")]
    NoFile(String),
    #[error("{0}")]
    Path(String),
    #[error("{0}")]
    Used(String),
    #[error("{0}")]
    Runs(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Late(String),
    #[error("There are too many streams at once: try again")]
    Busy,
}

/// This answer has the shape of these clients' errors.
#[derive(Clone, Copy)]
struct Shaped;

/// What most text of an error is cut to.
const TEXT: usize = 64 << 10;

/// Whatever went wrong on the way to a route, or in none of them, in the same words.
pub(in super::super) async fn shaped(response: Response) -> Response {
    let status = response.status();
    let wrong = status.is_client_error() || status.is_server_error();
    if !wrong || response.extensions().get::<Shaped>().is_some() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, TEXT).await.unwrap_or_default();
    // The other calls of this server say it flat.
    let flat = serde_json::from_slice::<Value>(&bytes).ok();
    let text = flat.as_ref().and_then(|flat| flat["error"].as_str()).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    let text = if text.is_empty() {
        status.canonical_reason().unwrap_or("Something went wrong").into()
    } else {
        text
    };
    let code = match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::REQUEST_TIMEOUT => "request_timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ if status.is_client_error() => "invalid_request",
        _ => "internal_error",
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = json!({ "error": { "code": code, "message": text } });
    Response::from_parts(head, Body::from(body.to_string()))
}

impl Problem {
    fn told(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(Refused::Denied) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Refused(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Config(_) => (StatusCode::BAD_REQUEST, "invalid_sandbox_config"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "sandbox_not_found"),
            Self::NoVolume(_) => (StatusCode::NOT_FOUND, "volume_not_found"),
            Self::NoFile(_) => (StatusCode::NOT_FOUND, "volume_file_not_found"),
            Self::Path(_) => (StatusCode::BAD_REQUEST, "invalid_volume_path"),
            Self::Used(_) => (StatusCode::CONFLICT, "invalid_request"),
            Self::Runs(_) => (StatusCode::CONFLICT, "invalid_state_transition"),
            Self::Exists(_) => (StatusCode::CONFLICT, "name_already_exists"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "sandbox_not_running"),
            Self::Failed(_) => (StatusCode::BAD_GATEWAY, "orchestrator_unreachable"),
            Self::Late(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.told();
        let text = self.to_string();
        let body = Json(json!({ "error": { "code": code, "message": text } }));
        let mut response = (status, Extension(Shaped), body).into_response();
        About::add(&mut response, |about| about.cause = Some(text));
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSandbox(key) => Self::NotFound(key.to_string()),
            Failure::NoNamespace(name) => Self::NotFound(format!("in the namespace {name}")),
            Failure::Exists(_) | Failure::VolumeExists(_) => Self::Exists(failure.to_string()),
            Failure::NoVolume(_) => Self::NoVolume(failure.to_string()),
            Failure::VolumeUsed(..) => Self::Used(failure.to_string()),
            Failure::Runs(_) | Failure::Elsewhere(_) => Self::Runs(failure.to_string()),
            Failure::Bad(text) => Self::Config(text),
            Failure::NotRunning(_) => Self::Conflict(failure.to_string()),
            _ => Self::Failed(failure.chain()),
        }
    }
}

impl From<BadName> for Problem {
    fn from(bad: BadName) -> Self {
        Self::Request(bad.to_string())
    }
}

impl From<BadRequest> for Problem {
    fn from(bad: BadRequest) -> Self {
        Self::Config(bad.to_string())
    }
}
