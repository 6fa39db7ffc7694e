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
    sandbox::NamedVolume,
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
fn allowed(caller: &Caller) -> Result<(), Problem> {
    match caller.only() {
        None => Ok(()),
        Some(_) => Err(Refused::Denied.into()),
    }
}

fn told(volume: &NamedVolume) -> Value {
    json!({
        "id": volume.name,
        "name": volume.name,
        "kind": "managed",
        "storage": "block",
        "status": "active",
        "used_bytes": null,
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
    let all = blocking(move || engine.volumes()).await?;
    Ok(Json(all.iter().map(told).collect()))
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
        Ok::<_, Problem>((StatusCode::CREATED, Json(told(&made))))
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

/// There is none that everybody has.
pub(super) async fn default(Extension(caller): Extension<Caller>) -> Result<Json<Value>, Problem> {
    allowed(&caller)?;
    Err(Problem::NoVolume("This server has no default volume: create one with a name".into()))
}
