//! `GET /metrics`

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{app::App, auth::Caller, process::blocking, rpc::Problem};

pub(crate) async fn route(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Response {
    let engine = Arc::clone(&app.engine);
    let sandboxes = blocking(move || {
        let infos = engine.list(caller.only())?;
        Ok(infos
            .into_iter()
            .map(|info| {
                let usage = engine.usage(&info.key).ok();
                (info, usage)
            })
            .collect::<Vec<_>>())
    })
    .await;
    match sandboxes {
        Ok(sandboxes) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.counters.text(&sandboxes))
                .into_response()
        }
        Err(failure) => Problem::from(failure).response(None),
    }
}
