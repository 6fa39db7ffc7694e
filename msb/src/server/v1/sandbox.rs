//! A sandbox as it is told to these clients, and what leads to it.

use std::time::{SystemTime, UNIX_EPOCH};

use msb_runtime::verbs::clock;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::{
    sandbox::{Info, Key, State},
    server::{app::Progress, auth::Caller},
};

/// The id of a sandbox: what leads to it in every namespace. A name has no dot.
pub(super) fn id(key: &Key) -> String {
    format!("{}.{}", key.namespace, key.name)
}

/// The sandbox of an id, if its caller may.
pub(super) fn of_id(caller: &Caller, id: &str) -> Result<Key, Problem> {
    let (namespace, name) =
        id.split_once('.').ok_or_else(|| Problem::NotFound(id.chars().take(64).collect()))?;
    Ok(caller.key(Some(namespace.parse()?), name.parse()?)?)
}

/// A sandbox as it is told.
pub(super) fn told(info: &Info, progress: Progress) -> Value {
    let (status, reason, failure) = match (info.state, progress) {
        (State::Running, _) => ("running", None, None),
        (_, Progress::Starting) => ("starting", Some("scheduling"), None),
        (_, Progress::Failed(cause)) => ("failed", None, Some(cause)),
        (State::Created, Progress::None) => ("created", None, None),
        (State::Stopped(_), Progress::None) => ("stopped", None, None),
    };
    json!({
        "id": id(&info.key),
        "org_id": info.key.namespace,
        "name": info.key.name,
        "slug": info.key.name,
        "status": status,
        "status_reason": reason,
        "ephemeral": info.request.remove,
        "created_at": at(info.created),
        "started_at": info.started.map(at),
        "stopped_at": info.ended.filter(|_| !info.running()).map(at),
        "last_failure_message": failure,
    })
}

/// RFC 3339.
pub(super) fn at(time: SystemTime) -> String {
    clock::rfc3339(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
