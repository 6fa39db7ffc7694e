//! A request's body: all of it, or why not.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use super::config::Limits;

/// The body as JSON. How deep it may nest is the parser's limit: 128.
///
/// # Errors
/// The answer: 415, 413, 408, 400, or 422 where it is not of the type.
pub(crate) async fn json<T: DeserializeOwned>(
    limits: &Limits,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if !is_json {
        let text = "Expected request with `Content-Type: application/json`";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response());
    }
    let bytes = all(limits.body, limits.slow, headers, body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        (status, format!("Failed to parse the request body as JSON: {error}")).into_response()
    })
}

async fn all(most: usize, slow: Duration, headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    let large = || {
        let text = format!("The request's body is larger than {most} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, [(header::CONNECTION, "close")], text).into_response()
    };
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(large());
    }
    match tokio::time::timeout(slow, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(large()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, [(header::CONNECTION, "close")]).into_response()),
    }
}
