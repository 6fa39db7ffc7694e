//! `/v1/volumes/{id}/files`: what is in a volume. A path comes in a header, in base64 for URLs, or in a body of JSON.

use std::{
    io::{self, Read},
    sync::Arc,
};

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64URL_NOPAD;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    problem::{Problem, asked},
    sandbox::at,
    volumes::allowed,
};
use crate::{
    name::Name,
    sandbox::{Failure, FileInfo, Files},
    server::{app::App, auth::Caller, process::blocking},
};

const PATH: &str = "x-msb-file-path";
const RECURSIVE: &str = "x-msb-file-recursive";
/// Bytes of a file that are read at once.
const PIECE: usize = 64 << 10;

/// Whose volume is meant, and what is said of it before the body.
type Of = (State<Arc<App>>, Extension<Caller>, Path<String>, HeaderMap);

type Answer = Result<Json<Value>, Problem>;

/// The path that the headers say.
fn path(headers: &HeaderMap) -> Result<String, Problem> {
    let bad = || Problem::Path(format!("{PATH} is a path in base64, for URLs and without padding"));
    let told = headers.get(PATH).ok_or_else(bad)?;
    let bytes = BASE64URL_NOPAD.decode(told.as_bytes()).map_err(|_| bad())?;
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Does something with a volume's files.
async fn with<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    which: &str,
    what: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    allowed(caller)?;
    let (name, engine): (Name, _) = (which.parse()?, Arc::clone(&app.engine));
    let done = blocking(move || {
        let files = engine.volume_files(name)?;
        Ok(what(&files))
    });
    done.await?.map_err(wrong)
}

fn wrong(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::NoFile("There is no such file in the volume".into()),
        io::ErrorKind::StorageFull | io::ErrorKind::Other => Failure::other(error).into(),
        _ => Problem::Path(error.to_string()),
    }
}

fn told(path: &str, file: &FileInfo) -> Value {
    json!({
        "path": path,
        "kind": if file.directory { "directory" } else { "file" },
        "size": file.size,
        "mode": file.mode,
        "uid": file.uid,
        "gid": file.gid,
        "readonly": file.mode & 0o222 == 0,
        "accessed_at": at(file.accessed),
        "modified_at": at(file.modified),
    })
}

pub(super) async fn list((State(app), Extension(caller), Path(which), headers): Of) -> Answer {
    let path = path(&headers)?;
    let asked = path.clone();
    let found = with(&app, &caller, &which, move |files| files.list(&asked)).await?;
    let base = path.trim_end_matches('/');
    let one = |file: &FileInfo| {
        let path = if base.is_empty() { file.name.clone() } else { format!("{base}/{}", file.name) };
        told(&path, file)
    };
    Ok(Json(json!({ "entries": found.iter().map(one).collect::<Vec<_>>() })))
}

pub(super) async fn stat((State(app), Extension(caller), Path(which), headers): Of) -> Answer {
    let path = path(&headers)?;
    let asked = path.clone();
    let found = with(&app, &caller, &which, move |files| files.stat(&asked)).await?;
    Ok(Json(json!({ "metadata": told(&path, &found) })))
}

pub(super) async fn exists((State(app), Extension(caller), Path(which), headers): Of) -> Answer {
    let path = path(&headers)?;
    match with(&app, &caller, &which, move |files| files.stat(&path)).await {
        Ok(_) => Ok(Json(json!({ "exists": true }))),
        Err(Problem::NoFile(_)) => Ok(Json(json!({ "exists": false }))),
        Err(problem) => Err(problem),
    }
}

pub(super) async fn remove((State(app), Extension(caller), Path(which), headers): Of) -> Answer {
    let path = path(&headers)?;
    let all = headers.get(RECURSIVE).is_some_and(|value| value == "true");
    with(&app, &caller, &which, move |files| files.remove(&path, all)).await?;
    Ok(Json(json!({ "message": "It is removed" })))
}

/// The file, as it is when it is opened and as long as it is read.
pub(super) async fn read(
    (State(app), Extension(caller), Path(which), headers): Of,
) -> Result<Response, Problem> {
    let path = path(&headers)?;
    let file = with(&app, &caller, &which, move |files| files.read(&path)).await?;
    let pieces = stream::try_unfold(file, |mut file| async move {
        let read = blocking(move || {
            let mut piece = vec![0; PIECE];
            let length = file.read(&mut piece).map_err(Failure::other)?;
            piece.truncate(length);
            Ok((piece, file))
        });
        let (piece, file) = read.await?;
        Ok::<_, Failure>((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}

/// A file as large as its disk has room for; each piece of it has its time to come.
pub(super) async fn write((State(app), Extension(caller), Path(which), headers): Of, body: Body) -> Answer {
    let path = path(&headers)?;
    let mut file = with(&app, &caller, &which, move |files| files.write(&path)).await?;
    let mut pieces = body.into_data_stream();
    loop {
        let piece = tokio::time::timeout(app.config.limits.slow, pieces.next()).await;
        let piece = piece.map_err(|_| Problem::Request("The file did not come in time".into()))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| Problem::Request(format!("The file can't be read: {error}")))?;
        let written = blocking(move || Ok(file.add(&piece).map(|()| file)));
        file = written.await?.map_err(wrong)?;
    }
    blocking(move || Ok(file.finish())).await?.map_err(wrong)?;
    Ok(Json(json!({ "message": "It is written" })))
}

#[derive(Deserialize)]
struct One {
    path: String,
}

#[derive(Deserialize)]
struct Two {
    from: String,
    to: String,
}

pub(super) async fn make_directory(
    (State(app), Extension(caller), Path(which), headers): Of,
    body: Body,
) -> Response {
    match asked::<One>(&app, &headers, body, "This is no path").await {
        Ok(One { path }) => done(with(&app, &caller, &which, move |files| files.make_directory(&path)).await),
        Err(refused) => refused,
    }
}

pub(super) async fn copy(of: Of, body: Body) -> Response {
    from_one_to_another(of, body, Files::copy).await
}

pub(super) async fn rename(of: Of, body: Body) -> Response {
    from_one_to_another(of, body, Files::rename).await
}

async fn from_one_to_another(
    (State(app), Extension(caller), Path(which), headers): Of,
    body: Body,
    what: fn(&Files, &str, &str) -> io::Result<()>,
) -> Response {
    match asked::<Two>(&app, &headers, body, "These are no two paths").await {
        Ok(Two { from, to }) => done(with(&app, &caller, &which, move |files| what(files, &from, &to)).await),
        Err(refused) => refused,
    }
}

fn done(done: Result<(), Problem>) -> Response {
    done.map(|()| Json(json!({ "message": "It is done" }))).into_response()
}
