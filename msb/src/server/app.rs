//! What all requests share.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    Limits, ServerConfig,
    counters::Counters,
    engine::Engine,
    journal,
    process::blocking,
    repl::Interpreters,
    turns::{Turn, Turns},
};
use crate::{
    name::Name,
    sandbox::{Failure, Info, Key, Pull, Request},
};

/// Sandboxes that are stopped at once: each has a thread for it.
const STOPS: usize = 128;
/// For all sandboxes to be stopped when the server ends: Docker's compose gives it 30 seconds in all.
const STOPPED: Duration = Duration::from_secs(18);

/// Failed starts that are known at most.
const FAILURES: usize = 1024;

/// How a sandbox's start goes, or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nobody starts it, or all went well.
    None,
    /// Somebody starts it.
    Starting,
    /// It failed, for that reason.
    Failed(String),
}

/// When a sandbox was made, and when it was started the last time: another one each time, also where the clock is set.
type Life = (SystemTime, Option<SystemTime>);

fn life_of(info: &Info) -> Life {
    (info.created, info.started)
}

/// What all requests share.
pub(crate) struct App {
    pub engine: Arc<dyn Engine>,
    pub config: ServerConfig,
    pub counters: Counters,
    pub interpreters: Interpreters,
    pub requests: Semaphore,
    sessions: Arc<Semaphore>,
    turns: Turns,
    /// Why the last start of a sandbox failed, as far as this server did it, and which life it had before. The command line may
    /// have started it, or made another one of its name, since.
    failures: Mutex<HashMap<Key, (Life, String)>>,
    /// With their memory. A turn is theirs, so that each is there once.
    starting: Mutex<HashMap<Key, u64>>,
}

impl App {
    pub(crate) fn new(engine: Arc<dyn Engine>, config: ServerConfig) -> Self {
        Self {
            requests: Semaphore::new(config.limits.requests),
            sessions: Arc::new(Semaphore::new(config.limits.sessions)),
            interpreters: Interpreters::default(),
            counters: Counters::default(),
            turns: Turns::default(),
            failures: Mutex::default(),
            starting: Mutex::default(),
            engine,
            config,
        }
    }

    /// A place for what lasts longer than a request; none: there are too many.
    pub(crate) fn session(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sessions).try_acquire_owned().ok()
    }

    /// What is known of a sandbox's start beside what its engine says.
    pub(crate) fn progress(&self, info: &Info) -> Progress {
        if self.starting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&info.key) {
            return Progress::Starting;
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&info.key) {
            Some((life, text)) if *life == life_of(info) => Progress::Failed(text.clone()),
            _ => Progress::None,
        }
    }

    /// Notes how the last start of one went; none: it went well, or there is no such sandbox any more.
    fn note(&self, key: &Key, failure: Option<(Life, String)>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => drop(failures.remove(key)),
            Some(failure) => {
                // What the command line removes is not told here.
                if failures.len() >= FAILURES {
                    failures.clear();
                }
                failures.insert(key.clone(), failure);
            }
        }
    }

    /// Starts a sandbox, if there may be one more. Goes on to its end when its caller does not wait for it, and cleans up after
    /// itself.
    ///
    /// # Errors
    /// As [`Engine::start`], or that too many run: then nothing was done.
    pub(crate) async fn start(self: &Arc<Self>, key: &Key, request: Option<Request>) -> Result<(), Failure> {
        let request = request.map(|request| self.usual(request));
        self.begin("started", key, |app, key| {
            let started =
                app.admit(key, request.as_ref()).and_then(|_admitted| app.engine.start(key, request));
            let there = started.as_ref().err().and_then(|failure| {
                let info = app.engine.info(key).ok().filter(|info| !info.running())?;
                Some((life_of(&info), failure.chain()))
            });
            app.note(key, there);
            started
        })
        .await
    }

    /// Makes a sandbox, and starts it if that is asked for: then what can't be started was never there. Goes on to its end
    /// when its caller does not wait for it, and cleans up after itself.
    ///
    /// # Errors
    /// As [`Engine::create`] and [`Engine::start`], or that too many run: then nothing was done.
    pub(crate) async fn create(
        self: &Arc<Self>,
        key: &Key,
        request: Request,
        start: bool,
    ) -> Result<(), Failure> {
        let request = self.usual(request);
        self.begin(if start { "started" } else { "created" }, key, move |app, key| {
            // Before anybody asks whether there is room: it needs none.
            if app.engine.info(key).is_ok() {
                return Err(Failure::Exists(key.clone()));
            }
            // And that before its image is brought here.
            let _admitted = if start { Some(app.admit(key, Some(&request))?) } else { None };
            app.engine.create(key, request)?;
            if !start {
                return Ok(());
            }
            app.engine.start(key, None).inspect_err(|_| {
                // The first failure is the one to tell.
                let _ = app.engine.remove(key);
            })
        })
        .await
    }

    /// As it is done here where its caller leaves that to us.
    fn usual(&self, request: Request) -> Request {
        let pull = if request.pull == Pull::IfMissing { self.config.pull } else { request.pull };
        Request { pull, ..request }
    }

    /// As [`Self::change`], in a task of its own: a client that goes away while others have their turn stops nothing.
    async fn begin(
        self: &Arc<Self>,
        done: &'static str,
        key: &Key,
        what: impl FnOnce(&Self, &Key) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (app, key) = (Arc::clone(self), key.clone());
        let begun = tokio::spawn(async move {
            let theirs = Arc::clone(&app);
            app.change(done, &key, move |key| what(&theirs, key)).await?;
            app.interpreters.forget_ended(&key);
            Ok(())
        });
        begun.await.unwrap_or_else(|lost| Err(Failure::other(lost)))
    }

    /// As the engine's, and what ran in it is forgotten.
    pub(crate) async fn stop(&self, key: &Key) -> Result<(), Failure> {
        self.interpreters.forget(key);
        let engine = Arc::clone(&self.engine);
        self.change("stopped", key, move |key| engine.stop(key)).await
    }

    /// As the engine's, and what ran in it is forgotten.
    pub(crate) async fn remove(self: &Arc<Self>, key: &Key) -> Result<(), Failure> {
        self.interpreters.forget(key);
        let app = Arc::clone(self);
        self.change("removed", key, move |key| {
            app.engine.remove(key)?;
            app.note(key, None);
            Ok(())
        })
        .await
    }

    /// As the engine's.
    pub(crate) async fn rename(self: &Arc<Self>, key: &Key, name: Name) -> Result<(), Failure> {
        let other = Key { name: name.clone(), ..key.clone() };
        let turns = self.turns.of_both(key, &other).await;
        let app = Arc::clone(self);
        self.on(key, move |engine, key| {
            let _turns = turns;
            engine.rename(key, name)?;
            // What failed by either name was another one.
            app.note(key, None);
            app.note(&other, None);
            Ok(())
        })
        .await
    }

    /// Does what changes a sandbox once nobody else changes it; its turn lasts for as long as that does, whether anybody
    /// waits for it or not. What came of it is said.
    async fn change(
        &self,
        done: &'static str,
        key: &Key,
        what: impl FnOnce(&Key) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let turn: Turn = self.turns.of(key).await;
        self.on(key, move |_, key| {
            let _turn = turn;
            let began = Instant::now();
            let changed = what(key);
            let line = json!({ "sandbox": key.to_string(), "seconds": began.elapsed().as_secs_f64() });
            match &changed {
                Ok(()) => journal::say(done, line),
                Err(failure) => {
                    let cause = json!({ "cause": failure.chain() });
                    journal::say(&format!("not {done}"), journal::joined(line, &cause));
                }
            }
            changed
        })
        .await
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

    /// Stops all that run, all at once, and says of which it failed.
    pub(crate) async fn stop_all(self: &Arc<Self>) {
        let say = |what: serde_json::Value| journal::say("not stopped", what);
        let engine = Arc::clone(&self.engine);
        let running = blocking(move || Ok(engine.list(None)?.into_iter().filter(Info::running).collect()));
        let running: Vec<Info> = match running.await {
            Ok(running) => running,
            Err(failure) => return say(json!({ "cause": failure.chain() })),
        };
        // One that is being started will run.
        let mut left: HashSet<Key> = self.turns.taken().into_iter().collect();
        left.extend(running.into_iter().map(|info| info.key));
        let room = Arc::new(Semaphore::new(STOPS));
        let mut stops = JoinSet::new();
        for key in left.iter().cloned() {
            let (app, room) = (Arc::clone(self), Arc::clone(&room));
            stops.spawn(async move {
                let _place = room.acquire_owned().await;
                // How that went was said.
                let _ = app.stop(&key).await;
                key
            });
        }
        let all = async {
            while let Some(Ok(key)) = stops.join_next().await {
                left.remove(&key);
            }
        };
        if tokio::time::timeout(STOPPED, all).await.is_err() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            say(json!({ "sandboxes": left, "cause": "They did not end in time" }));
        }
    }

    /// One more sandbox that is started, as long as what is returned is kept: if there may be one more, and its memory is
    /// there.
    fn admit<'app>(&'app self, key: &Key, request: Option<&Request>) -> Result<Admitted<'app>, Failure> {
        // Asked for before the lock: it reads files.
        let mut all = self.engine.list(None)?;
        let there = all.iter().find(|info| info.key == *key).map(|info| info.request.memory());
        let memory = request.map(Request::memory).or(there).unwrap_or_default();
        all.retain(|info| info.running() && info.key != *key);
        let running: HashMap<Key, u64> =
            all.into_iter().map(|info| (info.key, info.request.memory())).collect();
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let others: HashMap<&Key, u64> =
            running.iter().chain(starting.iter()).map(|(key, memory)| (key, *memory)).collect();
        let Limits { sandboxes: most, memory: has, .. } = self.config.limits;
        if others.len() >= most {
            let text = format!("{most} sandboxes run already, which is this server's limit: stop one first");
            return Err(Failure::Other(text.into()));
        }
        let used: u64 = others.values().sum();
        if let Some(has) = has
            && used.saturating_add(memory) > has
        {
            let [used, has, memory] = [used, has, memory].map(|bytes| bytes >> 20);
            return Err(Failure::Other(
                format!(
                    "It wants {memory} MiB of memory, and of {has} MiB that sandboxes may have here, {used} are given \
                     away: stop one, or ask for less"
                )
                .into(),
            ));
        }
        starting.insert(key.clone(), memory);
        Ok(Admitted { app: self, key: key.clone() })
    }
}

struct Admitted<'app> {
    app: &'app App,
    key: Key,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.app.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
