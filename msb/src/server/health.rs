//! `GET /api/v1/health`: whether anybody is there. No key is asked for.

use axum::Json;
use serde_json::{Value, json};

pub(crate) async fn route() -> Json<Value> {
    Json(json!({ "message": "Service is healthy" }))
}
