//! `sandbox.metrics.get`

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Problem, params::read};
use crate::{
    name::Name,
    sandbox::{Key, Usage},
    server::process::blocking,
};

#[derive(Deserialize)]
struct Params {
    namespace: Option<String>,
    sandbox: Option<String>,
}

pub(super) async fn run(call: &Call<'_>, params: Value) -> Result<Value, Problem> {
    let Params { namespace, sandbox } = read(params)?;
    let every = namespace.as_deref() == Some("*");
    let namespace: Option<Name> = match namespace {
        Some(_) if every && call.caller.only().is_none() => None,
        // Who may see one sees that one when asking for all.
        Some(_) if every => Some(call.caller.namespace(None)?),
        Some(name) => Some(call.caller.namespace(Some(name.parse()?))?),
        None => Some(call.caller.namespace(None)?),
    };
    let name: Option<Name> = sandbox.map(|text| text.parse()).transpose()?;
    let engine = Arc::clone(&call.app.engine);
    let found = blocking(move || {
        let infos = match (&namespace, &name) {
            (Some(namespace), Some(name)) => {
                vec![engine.info(&Key { namespace: namespace.clone(), name: name.clone() })?]
            }
            (_, name) => {
                let all = engine.list(namespace.as_ref())?;
                all.into_iter()
                    .filter(|info| name.as_ref().is_none_or(|name| info.key.name == *name))
                    .collect()
            }
        };
        // One that is removed meanwhile is not there, which is no failure of the others.
        Ok(infos
            .into_iter()
            .map(|info| {
                let usage = engine.usage(&info.key).unwrap_or_default();
                one(&info.key, info.running(), usage)
            })
            .collect::<Vec<_>>())
    })
    .await?;
    Ok(json!({ "sandboxes": found }))
}

fn one(key: &Key, running: bool, usage: Usage) -> Value {
    json!({
        "namespace": key.namespace,
        "name": key.name,
        "running": running,
        "cpu_usage": usage.cpu,
        "memory_usage": usage.memory.map(|bytes| bytes >> 20),
        "disk_usage": usage.disk,
    })
}
