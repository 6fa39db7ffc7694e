//! Sandboxes for who speaks HTTP.
//!
//! ```text
//!  accept ─▶ routes: who asks (auth), how often (counters)
//!              ├─▶ rpc: JSON-RPC as the original's clients speak it ─▶ repl: interpreters that stay
//!              ├─▶ mcp: the same for assistants
//!              ├─▶ v1: for later clients of the original's, with a stream to each sandbox
//!              ├─▶ page: for a person, with a terminal
//!              └─▶ health, prometheus
//!                   all of them ─▶ app ─▶ engine: whoever has the sandboxes
//! ```
//!
//! It knows nothing of how sandboxes are run or kept, and nothing of command lines.

mod accept;
mod app;
pub mod auth;
mod body;
mod config;
mod counters;
pub mod engine;
mod health;
mod journal;
pub mod log;
mod mcp;
mod page;
mod process;
mod prometheus;
mod repl;
mod routes;
mod rpc;
mod turns;
mod v1;

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub use config::{Limits, ServerConfig};
pub use engine::{Engine, Running};

use app::App;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Mostly somebody else does already.
    #[error("Can't listen on {address}: is another server there already?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel gives no threads, signals or the like.
    #[error("The server can't run")]
    Run(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT, and then until what runs has come to its end. `listening` is told where it listens.
///
/// # Errors
/// [`ServeError`].
pub fn serve(
    engine: Arc<dyn Engine>,
    config: ServerConfig,
    listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    room_for(workers).map_err(ServeError::Run)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(ServeError::Run)?;
    let served = runtime.block_on(async {
        let mut signals = [SignalKind::terminate(), SignalKind::interrupt()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()
            .map_err(ServeError::Run)?;
        let stop = async move {
            futures_util::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
        };
        run(engine, config, listening, stop).await
    });
    // What still blocks does so for nobody.
    runtime.shutdown_background();
    served
}

/// Whether so many threads can be had. The executor, which begins with as many, can't say that they can't.
fn room_for(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let held = gate.lock();
        for _ in 0..threads {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        drop(held);
        Ok(())
    })
}

/// As [`serve`], until `stop`.
///
/// # Errors
/// [`ServeError`].
pub async fn run(
    engine: Arc<dyn Engine>,
    config: ServerConfig,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if let Some(log) = &config.log {
        journal::keep(log.clone());
    }
    let address = config.address;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr().map_err(ServeError::Run)?;
    journal::say("listening", json!({ "address": address.to_string() }));
    if matches!(config.access, auth::Access::Everybody) && !address.ip().is_loopback() {
        let text = "Whoever reaches this address can do everything without a key";
        journal::say("open to everybody", json!({ "address": address.to_string(), "warning": text }));
    }
    listening(address);
    let app = Arc::new(App::new(engine, config));
    accept::serve(listener, routes::router(Arc::clone(&app)), &app.config.limits, stop)
        .await
        .map_err(ServeError::Run)?;
    if app.config.stop_sandboxes {
        app.stop_all().await;
    }
    journal::say("ended", json!({}));
    Ok(())
}
