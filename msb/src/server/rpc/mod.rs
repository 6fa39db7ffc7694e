//! `POST /api/v1/rpc`: JSON-RPC 2.0, as version 0.2.6 of the original speaks it and its published clients expect it.
//!
//! Where it differs, on purpose:
//! - What a sandbox could not do, a stop and a look at its metrics included, is answered with 200 and an error that says why;
//!   the original answers 500 and says nothing. Its clients show such an error as it is.
//! - A process that a signal ended has 128 and its number for its exit code, as a shell has it, in place of 1.
//! - Metrics of a sandbox that is not there: 404, as for every other call, in place of 500.
//! - A failed tool of MCP is a result with `isError`, as its specification wants it, for commands and code too.
//! - A script other than `start` is refused: nothing here would run it. `depends_on` and `exec` do nothing, as there.

mod command;
mod metrics;
mod params;
mod problem;
mod repl;
mod start;
mod stop;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

pub(crate) use problem::{Problem, error};

use super::{app::App, auth::Caller, body, journal::About};
use crate::sandbox::Failure;

/// What a call asks for, and of whom.
pub(crate) struct Call<'call> {
    pub app: &'call Arc<App>,
    pub caller: &'call Caller,
}

impl Call<'_> {
    /// Does what `method` says, under any of its names.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) async fn run(&self, method: &str, params: Value) -> Result<Value, Problem> {
        match method {
            "sandbox.start" => start::run(self, params).await,
            "sandbox.stop" => stop::run(self, params).await,
            "sandbox.metrics.get" => metrics::run(self, params).await,
            "sandbox.repl.run" => repl::run(self, params).await,
            "sandbox.command.run" | "sandbox.command.execute" => command::run(self, params).await,
            other => Err(Problem::Method(other.chars().take(100).collect())),
        }
    }
}

impl Call<'_> {
    /// Whether there is the sandbox that parameters name.
    ///
    /// # Errors
    /// [`Problem`], also where they name none.
    pub(crate) async fn has(&self, params: &Value) -> Result<bool, Problem> {
        let key = params::read::<params::Which>(params.clone())?.key(self)?;
        match self.app.on(&key, |engine, key| engine.info(key)).await {
            Ok(_) => Ok(true),
            Err(Failure::NoSandbox(_) | Failure::NoNamespace(_)) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The route.
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
    let Asked { method, params, id } = match Asked::of(request) {
        Ok(asked) => asked,
        Err(Malformed::Version(id)) => return Problem::Version.response(id.as_ref()),
        Err(Malformed::Shape(text)) => return (StatusCode::UNPROCESSABLE_ENTITY, text).into_response(),
    };
    let sandbox = About::sandbox_of(&params);
    let mut response = match (Call { app: &app, caller: &caller }).run(&method, params).await {
        Ok(result) => Json(answer(&result, id.as_ref())).into_response(),
        Err(problem) => problem.response(id.as_ref()),
    };
    About::add(&mut response, |about| {
        about.call = Some(method.chars().take(64).collect());
        about.sandbox = sandbox;
    });
    response
}

/// A request of JSON-RPC 2.0, section 4. One without an id is answered too: there are clients that send none and wait.
pub(crate) struct Asked {
    pub method: String,
    pub params: Value,
    pub id: Option<Value>,
}

/// Why something sent is no request.
#[derive(Debug)]
pub(crate) enum Malformed {
    /// It says no version, or another one; with its id.
    Version(Option<Value>),
    /// It has not the shape of one.
    Shape(&'static str),
}

impl Asked {
    /// Of what was sent.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn of(mut request: Value) -> Result<Self, Malformed> {
        let request = request.as_object_mut().ok_or(Malformed::Shape("A request is one JSON object"))?;
        let id = request.remove("id");
        if request.get("jsonrpc").is_none_or(|version| version != "2.0") {
            return Err(Malformed::Version(id));
        }
        let Some(Value::String(method)) = request.remove("method") else {
            return Err(Malformed::Shape("A request's `method` is a string"));
        };
        Ok(Self { method, params: request.remove("params").unwrap_or_default(), id })
    }
}

/// An answer with what was asked for.
pub(crate) fn answer(result: &Value, id: Option<&Value>) -> Value {
    let mut answer = json!({ "jsonrpc": "2.0", "result": result });
    if let Some(id) = id {
        answer["id"] = id.clone();
    }
    answer
}
