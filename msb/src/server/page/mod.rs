//! `GET /`: a page for a person. All of it is in the program: nothing is fetched from anywhere else.

mod logs;
mod terminal;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};

use super::app::App;

/// What a browser may do with it: run our own scripts, and talk to us. Nothing that a sandbox writes is ever a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Its files, and what it alone asks for. The files need no key: whoever opens the page is asked for one by it.
pub(crate) fn files() -> Router<Arc<App>> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move {
            let headers: [(HeaderName, &str); 4] = [
                (header::CONTENT_TYPE, kind),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, text).into_response()
        })
    };
    let script = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("index.html")))
        .route("/page/style.css", file("text/css; charset=utf-8", include_str!("style.css")))
        .route("/page/icon.svg", file("image/svg+xml", include_str!("icon.svg")))
        .route("/page/screen.js", file(script, include_str!("screen.js")))
        .route("/page/terminal.js", file(script, include_str!("terminal.js")))
        .route("/page/plot.js", file(script, include_str!("plot.js")))
        .route("/page/page.js", file(script, include_str!("page.js")))
        // A browser gives a WebSocket no headers: the key is its first message.
        .route("/page/terminal", get(terminal::route))
}

/// What needs a key.
pub(crate) fn asks() -> Router<Arc<App>> {
    Router::new().route("/page/logs", get(logs::route))
}
