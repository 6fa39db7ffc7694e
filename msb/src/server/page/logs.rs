//! `GET /page/logs`: what a sandbox's first process wrote, from where the page has it.

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::{
    Extension, Json,
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    sandbox::{Since, Stream},
    server::{app::App, auth::Caller, rpc::Problem},
};

#[derive(Deserialize)]
pub(super) struct Asked {
    namespace: String,
    sandbox: String,
    after: Option<u64>,
}

/// Lines that somebody sees who opens a log: a few screens.
const FIRST: usize = 500;

pub(super) async fn route(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Response {
    read(&app, &caller, asked).await.unwrap_or_else(|problem| problem.response(None))
}

async fn read(app: &App, caller: &Caller, asked: Asked) -> Result<Response, Problem> {
    let key = caller.key(Some(asked.namespace.parse()?), asked.sandbox.parse()?)?;
    let since = asked.after.map_or(Since::Last(FIRST), Since::After);
    let logs = app.on(&key, move |engine, key| engine.logs(key, since)).await?;
    let lines: Vec<_> = logs
        .lines
        .iter()
        .map(|line| {
            json!({
                "at": line.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
                "stderr": line.stream == Stream::Stderr,
                "text": line.text,
            })
        })
        .collect();
    Ok(Json(json!({ "lines": lines, "next": logs.next })).into_response())
}
