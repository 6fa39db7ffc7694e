//! Which request goes where, and what every answer has.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    app::App,
    health,
    journal::{self, About},
    mcp, page, prometheus, rpc,
    rpc::Problem,
    v1,
};

const HEALTH: &str = "/api/v1/health";

/// All of it.
pub(crate) fn router(app: Arc<App>) -> Router {
    let with_key = Router::new()
        .route("/api/v1/rpc", post(rpc::route))
        .route("/mcp", post(mcp::route))
        .route("/metrics", get(prometheus::route))
        .merge(page::asks())
        .merge(v1::router())
        .layer(from_fn_with_state(Arc::clone(&app), authorized));
    Router::new()
        .route(HEALTH, get(health::route))
        .merge(page::files())
        .merge(with_key)
        .layer(from_fn_with_state(Arc::clone(&app), counted))
        .with_state(app)
}

/// Lets in who may, and says who it is.
async fn authorized(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match app.config.access.caller(request.headers()) {
        Ok(caller) => {
            let only = caller.only().map(ToString::to_string);
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            About::add(&mut response, |about| about.caller = only);
            response
        }
        Err(refused) => Problem::Refused(refused).response(None),
    }
}

/// Counts, writes down, and lets pages of any origin read the answer: a key is what opens it, never where one comes from.
async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let preflight = method == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::OK.into_response()
    } else if path == HEALTH {
        // A server that has much to do is well.
        next.run(request).await
    } else if let Ok(_permit) = app.requests.try_acquire() {
        next.run(request).await
    } else {
        Problem::busy()
    };
    if path.starts_with("/v1/") {
        response = v1::shaped(response).await;
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if preflight {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,PUT,DELETE"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization,accept,content-type"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let (time, status) = (began.elapsed(), response.status().as_u16());
    app.counters.answered(kind(&path), status, time);
    let line = json!({
        "method": method.as_str().chars().take(16).collect::<String>(),
        "path": path.chars().take(256).collect::<String>(),
        "status": status,
        "seconds": time.as_secs_f64(),
    });
    let about = response.extensions_mut().remove::<About>().unwrap_or_default();
    journal::say("request", journal::joined(line, &about));
    response
}

/// What requests of a path are counted as: of a few kinds, whatever callers make up.
fn kind(path: &str) -> &'static str {
    match path {
        "/api/v1/rpc" => "rpc",
        "/api/v1/health" => "health",
        "/mcp" => "mcp",
        "/metrics" => "metrics",
        "/" | "/page/logs" | "/page/terminal" => "page",
        _ if path.starts_with("/v1/") => "v1",
        _ => "other",
    }
}
