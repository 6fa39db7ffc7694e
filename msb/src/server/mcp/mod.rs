//! `POST /mcp`: the same calls as tools of the Model Context Protocol, revision 2024-11-05, over plain JSON-RPC.

mod prompts;
mod tools;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    app::App,
    auth::Caller,
    body,
    journal::About,
    rpc::{Asked, Call, Malformed, Problem, answer, error},
};

/// The revision of the protocol.
const REVISION: &str = "2024-11-05";
/// Of JSON-RPC 2.0, section 5.1.
const INVALID_REQUEST: i32 = -32600;
/// Of JSON-RPC 2.0, section 5.1.
const INTERNAL: i32 = -32603;

/// The route. What goes wrong here is answered with 200: it is the call's, not the transport's.
pub(crate) async fn route(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = match body::json(&app.config.limits, &headers, body).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let asked = match Asked::of(request) {
        Ok(asked) => asked,
        Err(Malformed::Version(id)) => {
            let text = Problem::Version.to_string();
            return Json(error(INVALID_REQUEST, &text, None, id.as_ref())).into_response();
        }
        Err(Malformed::Shape(text)) => return (StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
    };
    if asked.method.starts_with("notifications/") {
        return StatusCode::OK.into_response();
    }
    let id = asked.id.as_ref();
    let mut cause = None;
    let mut response = match run(&Call { app: &app, caller: &caller }, &asked.method, &asked.params).await {
        Ok(result) => {
            if result["isError"] == true {
                cause = result["content"][0]["text"].as_str().map(str::to_owned);
            }
            Json(answer(&result, id)).into_response()
        }
        Err(problem @ Problem::Refused(_)) => problem.response(id),
        Err(problem) => {
            let text = format!("MCP method error: {problem}");
            let response = Json(error(INTERNAL, &text, None, id)).into_response();
            cause = Some(text);
            response
        }
    };
    About::add(&mut response, |about| {
        about.call = Some(asked.params["name"].as_str().unwrap_or(&asked.method).chars().take(64).collect());
        about.sandbox = About::sandbox_of(&asked.params["arguments"]);
        about.cause = cause.or(about.cause.take());
    });
    response
}

async fn run(call: &Call<'_>, method: &str, params: &Value) -> Result<Value, Problem> {
    match method {
        "initialize" => Ok(json!({
            "protocolVersion": REVISION,
            "capabilities": { "tools": { "listChanged": false }, "prompts": { "listChanged": false } },
            "serverInfo": { "name": "microsandbox-server", "version": env!("CARGO_PKG_VERSION") },
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "tools": tools::all() })),
        "tools/call" => tools::run(call, params).await,
        "prompts/list" => Ok(json!({ "prompts": prompts::all() })),
        "prompts/get" => prompts::get(params),
        other => Err(Problem::Method(other.chars().take(100).collect())),
    }
}
