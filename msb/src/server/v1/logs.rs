//! `GET /v1/sandboxes/{id}/logs`: what a sandbox's first process wrote and writes, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    problem::Problem,
    sandbox::{at, of_id},
};
use crate::{
    sandbox::{Key, Line, Logs, Since, Stream},
    server::{accept::Place, app::App, auth::Caller},
};

#[derive(Deserialize)]
pub(super) struct Asked {
    sources: Option<String>,
}

/// Between two looks at a log that nobody writes to.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn route(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(place): Extension<Place>,
    Path(which): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = of_id(&caller, &which)?;
    app.on(&key, |engine, key| engine.info(key)).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let since = match last {
        Some(text) => {
            Since::After(position(text).ok_or_else(|| Problem::Request("No such Last-Event-ID".into()))?)
        }
        None => Since::Beginning,
    };
    let wanted = |source: &str| {
        asked.sources.as_ref().is_none_or(|all| all.split(',').any(|one| one == source || one == "output"))
    };
    let permit = app.session().ok_or(Problem::Busy)?;
    let wanted = [wanted("stdout"), wanted("stderr")];
    let follow = Follow { app, key, since, wanted, ended: false, place, _permit: permit };
    let body = Body::from_stream(stream::unfold(follow, |mut follow| async move {
        let block = follow.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(block)), follow))
    }));
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], body)
        .into_response())
}

struct Follow {
    app: Arc<App>,
    key: Key,
    since: Since,
    wanted: [bool; 2],
    ended: bool,
    place: Place,
    _permit: OwnedSemaphorePermit,
}

impl Follow {
    /// Some events; none: that was all.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let since = self.since;
        let found = self.app.on(&self.key, move |engine, key| {
            // Asked first: what is written between the two is read.
            let running = engine.info(key)?.running();
            Ok((running, engine.logs(key, since)?))
        });
        let Ok((running, Logs { lines, next })) = found.await else {
            self.ended = true;
            return Some("event: end\ndata: {}\n\n".into());
        };
        self.since = Since::After(next);
        let text: String = lines.iter().filter(|line| self.wanted[line.stream as usize]).map(event).collect();
        if !lines.is_empty() {
            return Some(text);
        }
        if !running {
            self.ended = true;
            return Some("event: end\ndata: {}\n\n".into());
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.place.end() => return None,
        }
        // Also how it is noticed that nobody listens.
        Some(": nothing\n\n".into())
    }
}

fn event(line: &Line) -> String {
    let source = match line.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let data = json!({ "source": source, "ts": at(line.at), "text": line.text });
    format!("id: {}\nevent: log\ndata: {data}\n\n", cursor(line.next))
}

/// These clients read a position as they write their own: how many files, and of each its generation and where in it.
fn cursor(next: u64) -> String {
    let mut bytes = vec![1];
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    BASE64.encode(&bytes)
}

fn position(cursor: &str) -> Option<u64> {
    let bytes = BASE64.decode(cursor.as_bytes()).ok()?;
    match *bytes.as_slice() {
        [0] => Some(0),
        [1, ref rest @ ..] => Some(u64::from_le_bytes(rest.get(8..16)?.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_went() {
        for next in [0, 7, u64::MAX] {
            assert_eq!(position(&cursor(next)), Some(next));
        }
        for bad in ["", "x", "AQ==", "////"] {
            assert_eq!(position(bad), None);
        }
    }
}
