//! Connections: taken as long as the server runs, each of them slow only so long.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use super::config::Limits;

/// After a failure to take a connection: mostly there are too many files open, and somebody will close one.
const PAUSE: Duration = Duration::from_millis(50);

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
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut end = end.clone();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            // What goes wrong is the client's: it went away, or speaks something else.
            let ended = tokio::select! {
                _ = &mut connection => true,
                _ = end.changed() => false,
            };
            if !ended {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
            drop(place);
        });
    }
    drop(listener);
    drop(ending);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.finish, room.acquire_many(all)).await;
    Ok(())
}
