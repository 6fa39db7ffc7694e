//! What all requests share.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    ServerConfig, counters::Counters, engine::Engine, journal, process::blocking, repl::Interpreters,
};
use crate::sandbox::{Failure, Info, Key, Request};

/// What all requests share.
pub(crate) struct App {
    pub engine: Arc<dyn Engine>,
    pub config: ServerConfig,
    pub counters: Counters,
    pub interpreters: Interpreters,
    pub requests: Semaphore,
    starting: Mutex<HashSet<Key>>,
}

impl App {
    pub(crate) fn new(engine: Arc<dyn Engine>, config: ServerConfig) -> Self {
        Self {
            requests: Semaphore::new(config.limits.requests),
            interpreters: Interpreters::default(),
            counters: Counters::default(),
            starting: Mutex::default(),
            engine,
            config,
        }
    }

    /// Starts a sandbox, if there may be one more. Goes on to its end when its caller does not wait for it.
    ///
    /// # Errors
    /// As [`Engine::start`], or that too many run.
    pub(crate) async fn start(self: &Arc<Self>, key: &Key, request: Option<Request>) -> Result<(), Failure> {
        let app = Arc::clone(self);
        let key = key.clone();
        let started = blocking(move || {
            let _admitted = app.admit(&key)?;
            app.engine.start(&key, request)?;
            Ok(key)
        })
        .await?;
        self.interpreters.forget_ended(&started);
        Ok(())
    }

    /// As the engine's, and what ran in it is forgotten.
    pub(crate) async fn stop(&self, key: &Key) -> Result<(), Failure> {
        self.interpreters.forget(key);
        self.on(key, |engine, key| engine.stop(key)).await
    }

    /// As the engine's, and what ran in it is forgotten.
    pub(crate) async fn remove(&self, key: &Key) -> Result<(), Failure> {
        self.interpreters.forget(key);
        self.on(key, |engine, key| engine.remove(key)).await
    }

    /// Asks the engine something of one sandbox.
    pub(crate) async fn on<T: Send + 'static>(
        &self,
        key: &Key,
        what: impl FnOnce(&dyn Engine, &Key) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (engine, key) = (Arc::clone(&self.engine), key.clone());
        blocking(move || what(engine.as_ref(), &key)).await
    }

    /// Stops all that run, and says of which it failed.
    pub(crate) async fn stop_all(&self) {
        let engine = Arc::clone(&self.engine);
        let stopped = blocking(move || {
            for info in engine.list(None)?.iter().filter(|info| info.running()) {
                if let Err(failure) = engine.stop(&info.key) {
                    journal::say(
                        "not stopped",
                        json!({ "sandbox": info.key.to_string(), "cause": failure.chain() }),
                    );
                }
            }
            Ok(())
        });
        if let Err(failure) = stopped.await {
            journal::say("not stopped", json!({ "cause": failure.chain() }));
        }
    }

    /// One more sandbox that is started, as long as what is returned is kept.
    fn admit<'app>(&'app self, key: &Key) -> Result<Admitted<'app>, Failure> {
        // Asked for before the lock: it reads files.
        let running: HashSet<Key> =
            self.engine.list(None)?.into_iter().filter(Info::running).map(|info| info.key).collect();
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let others = starting.iter().filter(|other| !running.contains(other)).count();
        let most = self.config.limits.sandboxes;
        let more = !running.contains(key) && !starting.contains(key);
        if more && running.len() + others >= most {
            return Err(Failure::Other(
                format!("{most} sandboxes run already, which is this server's limit: stop one first").into(),
            ));
        }
        let first = starting.insert(key.clone());
        Ok(Admitted { app: self, key: first.then(|| key.clone()) })
    }
}

struct Admitted<'app> {
    app: &'app App,
    key: Option<Key>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.app.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
    }
}
