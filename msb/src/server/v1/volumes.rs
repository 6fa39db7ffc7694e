//! `/v1/volumes`: volumes with names. All sandboxes of this machine share them, so that a key to one namespace has none.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::{Problem, asked},
    sandbox::at,
};
use crate::{
    name::Name,
    sandbox::{Failure, NamedVolume},
    server::{
        app::App,
        auth::{Caller, Refused},
        process::blocking,
    },
};

/// A volume to be made. There are no limits of a volume's size here, and nothing is kept of it but what is in it.
#[derive(Debug, Deserialize)]
struct Create {
    name: String,
    capacity_gib: Option<u32>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Create {
    fn name(self) -> Result<Name, Problem> {
        for (there, what) in [(self.capacity_gib.is_some(), "capacity"), (!self.labels.is_empty(), "labels")]
        {
            if there {
                return Err(Problem::Request(format!("This server's volumes have no {what}")));
            }
        }
        Ok(self.name.parse()?)
    }
}

/// Who may.
pub(super) fn allowed(caller: &Caller) -> Result<(), Problem> {
    match caller.only() {
        None => Ok(()),
        Some(_) => Err(Refused::Denied.into()),
    }
}

fn told(volume: &NamedVolume, used: Option<u64>) -> Value {
    json!({
        "id": volume.name,
        "name": volume.name,
        "kind": "managed",
        "storage": "block",
        "status": "active",
        "used_bytes": used,
        "capacity_bytes": null,
        "labels": {},
        "created_at": at(volume.created),
        "updated_at": at(volume.changed),
    })
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    allowed(&caller)?;
    let engine = Arc::clone(&app.engine);
    let all = blocking(move || {
        let with = |volume: NamedVolume| {
            let used = engine.volume_used(volume.name.clone()).ok();
            (volume, used)
        };
        Ok(engine.volumes()?.into_iter().map(with).collect::<Vec<_>>())
    });
    Ok(Json(all.await?.iter().map(|(volume, used)| told(volume, *used)).collect()))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let wanted: Create = match asked(&app, &headers, body, "This is no volume").await {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let made = async {
        allowed(&caller)?;
        let (name, engine) = (wanted.name()?, Arc::clone(&app.engine));
        let made = blocking(move || engine.create_volume(name)).await?;
        Ok::<_, Problem>((StatusCode::CREATED, Json(told(&made, Some(0)))))
    };
    made.await.into_response()
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(which): Path<String>,
) -> Result<Json<Value>, Problem> {
    allowed(&caller)?;
    let (name, engine): (Name, _) = (which.parse()?, Arc::clone(&app.engine));
    let removed = name.clone();
    blocking(move || engine.remove_volume(removed)).await?;
    Ok(Json(json!({ "message": format!("Volume {name} is removed") })))
}

/// What can be changed of a volume: nothing that a volume of this server has.
#[derive(Debug, Deserialize)]
struct Change {
    capacity_gib: Option<u32>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(which): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let wanted: Change = match asked(&app, &headers, body, "This is no change of a volume").await {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let changed = async {
        allowed(&caller)?;
        let name: Name = which.parse()?;
        let Change { capacity_gib, labels } = wanted;
        // What it asks for is what a new one can't have either.
        Create { name: which, capacity_gib, labels: labels.unwrap_or_default() }.name()?;
        let engine = Arc::clone(&app.engine);
        let found = blocking(move || {
            let found = engine.volumes()?.into_iter().find(|volume| volume.name == name);
            let found = found.ok_or_else(|| Failure::NoVolume(name.clone()))?;
            Ok((found, engine.volume_used(name)?))
        });
        let (found, used) = found.await?;
        Ok::<_, Problem>(Json(told(&found, Some(used))))
    };
    changed.await.into_response()
}

/// There is none that everybody has.
pub(super) async fn default(Extension(caller): Extension<Caller>) -> Result<Json<Value>, Problem> {
    allowed(&caller)?;
    Err(Problem::NoVolume("This server has no default volume: create one with a name".into()))
}
