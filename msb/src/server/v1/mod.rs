//! `/v1`: sandboxes as the clients of versions 0.6 and 0.7 of the original ask a cloud for them, and a stream to each one's
//! agent.

mod agent;
mod create;
mod logs;
mod network;
mod problem;
mod sandbox;
mod verbs;
mod volumes;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post},
};

use super::app::App;

pub(super) use problem::shaped;

/// All of it. A sandbox has a name in the namespace of the key, and an id everywhere: both lead to it.
pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/sandboxes", get(verbs::list).post(verbs::create))
        .route("/v1/sandboxes/by-name/{which}", get(verbs::by_name::get).delete(verbs::by_name::delete))
        .route("/v1/sandboxes/by-name/{which}/start", post(verbs::by_name::start))
        .route("/v1/sandboxes/by-name/{which}/stop", post(verbs::by_name::stop))
        .route(
            "/v1/sandboxes/{which}",
            get(verbs::by_id::get).delete(verbs::by_id::delete).patch(verbs::rename),
        )
        .route("/v1/sandboxes/{which}/start", post(verbs::by_id::start))
        .route("/v1/sandboxes/{which}/stop", post(verbs::by_id::stop))
        .route("/v1/sandboxes/{which}/logs", get(logs::route))
        .route("/v1/sandboxes/{which}/agent", get(agent::route))
        .route("/v1/volumes", get(volumes::list).post(volumes::create))
        .route("/v1/volumes/default", get(volumes::default))
        .route("/v1/volumes/{which}", delete(volumes::delete))
}
