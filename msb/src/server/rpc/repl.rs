//! `sandbox.repl.run`: code, in an interpreter that stays.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Call, Problem,
    params::{Which, read, seconds},
};
use crate::server::repl::Language;

#[derive(Deserialize)]
struct Params {
    #[serde(flatten)]
    which: Which,
    language: Option<String>,
    code: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    timeout: Option<Duration>,
}

pub(super) async fn run(call: &Call<'_>, params: Value) -> Result<Value, Problem> {
    let Params { which, language, code, timeout } = read(params)?;
    let key = which.key(call)?;
    let told = language.ok_or_else(|| Problem::Bad("Missing required 'language' parameter".into()))?;
    let code = code.ok_or_else(|| Problem::Bad("Missing required 'code' parameter".into()))?;
    let language = Language::of(&told).ok_or_else(|| {
        Problem::Bad(format!("Unsupported language: {}. There are python and node", told.escape_debug()))
    })?;
    let limit = timeout.unwrap_or(call.app.config.limits.run).min(call.app.config.limits.run);
    let ran = call.app.interpreters.run(call.app, &key, language, code, limit).await?;
    let mut result = json!({
        "status": if ran.good { "success" } else { "error" },
        "language": told,
        "output": ran.output,
    });
    if ran.truncated {
        result["truncated"] = true.into();
    }
    Ok(result)
}
