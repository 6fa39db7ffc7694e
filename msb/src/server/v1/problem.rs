//! What went wrong, in the words that these clients look for.

use axum::{
    Json,
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    name::BadName,
    sandbox::{BadRequest, Failure},
    server::{app::App, auth::Refused, body},
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
    Used(String),
    #[error("{0}")]
    Runs(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Failed(String),
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
            Self::Used(_) => (StatusCode::CONFLICT, "invalid_request"),
            Self::Runs(_) => (StatusCode::CONFLICT, "invalid_state_transition"),
            Self::Exists(_) => (StatusCode::CONFLICT, "name_already_exists"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "sandbox_not_running"),
            Self::Failed(_) => (StatusCode::BAD_GATEWAY, "orchestrator_unreachable"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code) = self.told();
        (status, Json(json!({ "error": { "code": code, "message": self.to_string() } }))).into_response()
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
            Failure::Runs(_) => Self::Runs(failure.to_string()),
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
