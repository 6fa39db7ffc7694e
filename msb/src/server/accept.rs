//! Connections: taken as long as the server runs, each of them slow only so long.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::config::Limits;

/// After a failure to take a connection: mostly there are too many files open, and somebody will close one.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection's place among those that there may be at once. It comes with each request, for who goes on with the
/// connection after its answer.
#[derive(Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    end: watch::Receiver<()>,
}

impl Place {
    /// Waits until the server is to end. May be given up, and asked again.
    pub(crate) async fn end(&mut self) {
        // Nothing is ever said: it is closed.
        while self.end.changed().await.is_ok() {}
    }
}

/// Serves until `stop`, and then lets what runs come to its end.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (ending, end) = watch::channel(());
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.slow).max_buf_size(64 << 10);
    let service = TowerToHyperService::new(router);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            // Never closed.
            let place = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, place))
        };
        let (stream, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        prepare(&stream, limits.slow);
        let mut place = Place { _permit: Arc::new(place), end: end.clone() };
        let service = service_fn({
            let (service, place) = (service.clone(), place.clone());
            move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(place.clone());
                service.call(request)
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            // What goes wrong is the client's: it went away, or speaks something else.
            let ended = tokio::select! {
                _ = &mut connection => true,
                () = place.end() => false,
            };
            if !ended {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        });
    }
    drop(listener);
    drop(ending);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.finish, room.acquire_many(all)).await;
    Ok(())
}

/// What is written goes out at once, and a client that takes nothing of it for that long is one that is gone (tcp(7),
/// `TCP_USER_TIMEOUT`).
fn prepare(stream: &TcpStream, slow: Duration) {
    // A connection that does not know this is served as well.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, TcpUserTimeout, &u32::try_from(slow.as_millis()).unwrap_or(u32::MAX));
}
