//! What is done to sandboxes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    create::Create,
    problem::{Problem, asked},
    sandbox::{of_id, told},
};
use crate::{
    name::Name,
    sandbox::{Failure, Key},
    server::{app::App, auth::Caller, process::blocking},
};

#[derive(Deserialize)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<usize>,
    labels: Option<String>,
}

/// Sandboxes of one page, where nobody says how many.
const PAGE: usize = 20;
/// And at most.
const LARGEST: usize = 200;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let namespace = caller.namespace(None)?;
    let bad = |what: &str| Problem::Request(format!("The {what} of a list can't be read"));
    let labels: BTreeMap<String, String> = match &page.labels {
        None => BTreeMap::new(),
        Some(text) => serde_json::from_str(text).map_err(|_| bad("labels"))?,
    };
    let after: Option<Name> = page.cursor.map(|text| text.parse()).transpose().map_err(|_| bad("cursor"))?;
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST);
    let engine = Arc::clone(&app.engine);
    let all = blocking(move || match engine.list(Some(&namespace)) {
        Err(Failure::NoNamespace(_)) => Ok(Vec::new()),
        found => found,
    })
    .await?;
    let mut rest = all.iter().filter(|info| {
        after.as_ref().is_none_or(|after| info.key.name > *after)
            && labels.iter().all(|(name, value)| info.request.labels.get(name) == Some(value))
    });
    let data: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next = data.last().filter(|_| more).map(|info| &info.key.name);
    let data: Vec<Value> = data.iter().map(|info| told(info, app.progress(info))).collect();
    Ok(Json(json!({ "data": data, "has_more": more, "next_cursor": next })))
}

/// Whether a sandbox is started, and how long is waited for it to run. Nothing else can be waited for here.
#[derive(Deserialize)]
pub(super) struct Started {
    #[serde(default)]
    start: bool,
    #[serde(flatten)]
    wait: Wait,
}

#[derive(Deserialize)]
pub(super) struct Wait {
    wait_for: Option<String>,
    wait_timeout: Option<String>,
}

impl Wait {
    /// As long as that, and no longer than the server lets anybody.
    fn limit(&self, most: Duration) -> Result<Duration, Problem> {
        if self.wait_for.as_deref().is_some_and(|state| state != "running") {
            return Err(Problem::Request("`wait_for` is `running`".into()));
        }
        let bad = || Problem::Request("`wait_timeout` is a number of seconds".into());
        let asked =
            self.wait_timeout.as_ref().map(|text| text.parse::<f64>().map_err(|_| bad())).transpose()?;
        let asked =
            asked.map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|_| bad())).transpose()?;
        Ok(asked.map_or(most, |asked| asked.min(most)))
    }

    /// Waits for what goes on also when nobody waits for it any more.
    async fn on(&self, app: &App, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Problem> {
        let limit = self.limit(app.config.limits.start)?;
        match tokio::time::timeout(limit, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Problem::Late(format!(
                "It does not run after {} seconds, and may do so later",
                limit.as_secs_f64()
            ))),
        }
    }
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(Started { start, wait }): Query<Started>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let wanted: Value = match asked(&app, &headers, body, "This is no sandbox's configuration").await {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let made = async {
        let wanted = Create::of(wanted)?;
        let key = caller.key(None, wanted.name.parse()?)?;
        let request = wanted.request(&caller)?;
        // Said before anything is done.
        wait.limit(app.config.limits.start)?;
        wait.on(&app, app.create(&key, request, start)).await?;
        Ok::<_, Problem>((StatusCode::CREATED, now(&app, &key).await?))
    };
    made.await.into_response()
}

/// What can be changed of a sandbox: its name. Here it has no other handle.
#[derive(Deserialize)]
struct Change {
    name: Option<String>,
    slug: Option<String>,
}

pub(super) async fn rename(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(which): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Change { name, slug } = match asked(&app, &headers, body, "This is no change of a sandbox").await {
        Ok(wanted) => wanted,
        Err(refused) => return refused,
    };
    let renamed = async {
        let mut key = of_id(&caller, &which)?;
        if slug.is_some() && slug != name {
            return Err(Problem::Request(
                "A sandbox of this server has its name, and no other handle".into(),
            ));
        }
        if let Some(name) = name {
            let name: Name = name.parse()?;
            let wanted = name.clone();
            app.rename(&key, wanted).await?;
            key = Key { name, ..key };
        }
        now(&app, &key).await
    };
    renamed.await.into_response()
}

async fn now(app: &App, key: &Key) -> Result<Json<Value>, Problem> {
    let info = app.on(key, |engine, key| engine.info(key)).await?;
    Ok(Json(told(&info, app.progress(&info))))
}

async fn start(app: &Arc<App>, key: &Key, wait: &Wait) -> Result<Json<Value>, Problem> {
    wait.on(app, app.start(key, None)).await?;
    now(app, key).await
}

async fn stop(app: &App, key: &Key) -> Result<Json<Value>, Problem> {
    app.stop(key).await?;
    now(app, key).await
}

async fn delete(app: &Arc<App>, key: &Key) -> Result<Json<Value>, Problem> {
    app.remove(key).await?;
    Ok(Json(json!({ "message": format!("Sandbox {} is removed", key.name) })))
}

/// The same by two ways to a sandbox.
macro_rules! ways {
    ($module:ident, $key:expr, $doc:literal) => {
        #[doc = $doc]
        pub(super) mod $module {
            use std::sync::Arc;

            use axum::{
                Extension, Json,
                extract::{Path, Query, State},
            };
            use serde_json::Value;

            use super::{App, Caller, Key, Problem};

            type Answer = Result<Json<Value>, Problem>;

            fn key(caller: &Caller, which: &str) -> Result<Key, Problem> {
                let find: fn(&Caller, &str) -> Result<Key, Problem> = $key;
                find(caller, which)
            }

            pub(in crate::server::v1) async fn get(
                State(app): State<Arc<App>>,
                Extension(caller): Extension<Caller>,
                Path(which): Path<String>,
            ) -> Answer {
                super::now(&app, &key(&caller, &which)?).await
            }

            pub(in crate::server::v1) async fn start(
                State(app): State<Arc<App>>,
                Extension(caller): Extension<Caller>,
                Path(which): Path<String>,
                Query(wait): Query<super::Wait>,
            ) -> Answer {
                super::start(&app, &key(&caller, &which)?, &wait).await
            }

            pub(in crate::server::v1) async fn stop(
                State(app): State<Arc<App>>,
                Extension(caller): Extension<Caller>,
                Path(which): Path<String>,
            ) -> Answer {
                super::stop(&app, &key(&caller, &which)?).await
            }

            pub(in crate::server::v1) async fn delete(
                State(app): State<Arc<App>>,
                Extension(caller): Extension<Caller>,
                Path(which): Path<String>,
            ) -> Answer {
                super::delete(&app, &key(&caller, &which)?).await
            }
        }
    };
}

ways!(
    by_name,
    |caller, name| Ok(caller.key(None, name.parse()?)?),
    "By a name, in the namespace of the key."
);
ways!(by_id, super::super::sandbox::of_id, "By an id.");
