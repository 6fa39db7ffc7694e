//! `/v1`: sandboxes as the clients of versions 0.6 and 0.7 of the original ask a cloud for them, and a stream to each one's
//! agent.

mod agent;
mod create;
mod logs;
mod network;
mod problem;
mod sandbox;
mod verbs;
mod volume_files;
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
        .route("/v1/volumes/{which}", delete(volumes::delete).patch(volumes::change))
        .route("/v1/volumes/{which}/files", get(volume_files::list).delete(volume_files::remove))
        .route("/v1/volumes/{which}/files/content", get(volume_files::read).put(volume_files::write))
        .route("/v1/volumes/{which}/files/stat", get(volume_files::stat))
        .route("/v1/volumes/{which}/files/exists", get(volume_files::exists))
        .route("/v1/volumes/{which}/files/mkdir", post(volume_files::make_directory))
        .route("/v1/volumes/{which}/files/copy", post(volume_files::copy))
        .route("/v1/volumes/{which}/files/rename", post(volume_files::rename))
}
