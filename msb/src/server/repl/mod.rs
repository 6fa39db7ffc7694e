//! Interpreters that stay: one for each sandbox and language, begun when it is needed, and what it knows is kept from run to
//! run.
//!
//! A program of ours runs in the image's own interpreter, takes code as a line of JSON on its stdin, and leaves the code's
//! stdout and stderr to the code: a word that only this run knows says on both of them that it is done.

mod interpreter;
mod marker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as Lock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, oneshot};

use self::interpreter::{Interpreter, Outcome};
use super::{
    app::App,
    process::{Line, Lines, Side},
    rpc::Problem,
};
use crate::sandbox::{Failure, Key};

/// What code can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Python,
    Node,
}

impl Language {
    /// The one that is called so.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "python" => Some(Self::Python),
            "node" | "nodejs" | "javascript" => Some(Self::Node),
            _ => None,
        }
    }

    /// What its interpreter is called, in the order in which they are tried; how it takes a program; and ours.
    fn programs(self) -> (&'static [&'static str], &'static [&'static str], &'static str) {
        match self {
            Self::Python => (&["python3", "python"], &["-c"], include_str!("driver.py")),
            // Code that is ended leaves a callback without its end, which Node takes for a fault of its own otherwise.
            Self::Node => {
                (&["node", "nodejs"], &["--no-force-async-hooks-checks", "-e"], include_str!("driver.js"))
            }
        }
    }
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub good: bool,
    pub output: Vec<Line>,
    /// Whether it wrote more.
    pub truncated: bool,
}

type Slot = Arc<Mutex<Option<Interpreter>>>;

/// All interpreters.
#[derive(Default)]
pub(crate) struct Interpreters {
    slots: Lock<HashMap<(Key, Language), Slot>>,
}

impl Interpreters {
    /// Runs code. Where its caller goes away, it is interrupted. The limit is one for the wait until other code is done and
    /// for the code itself; the start of an interpreter has its own.
    ///
    /// # Errors
    /// That there is no interpreter. What goes wrong in the code is output.
    pub(crate) async fn run(
        &self,
        app: &Arc<App>,
        key: &Key,
        language: Language,
        code: String,
        limit: Duration,
    ) -> Result<Ran, Problem> {
        // Holding this is being there.
        let (_present, gone) = oneshot::channel::<()>();
        let slot = self.slot(key, language);
        let (app, key) = (Arc::clone(app), key.clone());
        // In a task of its own: a run that is given up half-way would leave its rest to the next one.
        let run = tokio::spawn(async move {
            let began = Instant::now();
            let Ok(mut slot) = tokio::time::timeout(limit, slot.lock()).await else {
                return Ok(busy(limit));
            };
            let times = Times { whole: limit, left: limit.saturating_sub(began.elapsed()) };
            one(&app, &key, language, &mut slot, &code, times, gone).await
        });
        match run.await {
            Ok(ran) => Ok(ran?),
            Err(lost) => Err(Problem::failed(lost.to_string())),
        }
    }

    /// Forgets what ran in a sandbox: it ends with it.
    pub(crate) fn forget(&self, key: &Key) {
        self.locked().retain(|(of, _), _| of != key);
    }

    /// Forgets what has ended in a sandbox that was started again: nobody needs to be told.
    pub(crate) fn forget_ended(&self, key: &Key) {
        self.locked().retain(|(of, _), slot| {
            let ended = |slot: &Slot| {
                slot.try_lock().is_ok_and(|mut slot| slot.as_mut().is_none_or(Interpreter::ended))
            };
            of != key || !ended(slot)
        });
    }

    fn slot(&self, key: &Key, language: Language) -> Slot {
        Arc::clone(self.locked().entry((key.clone(), language)).or_default())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<(Key, Language), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a run may take, as its caller said, and what is left of that.
#[derive(Debug, Clone, Copy)]
struct Times {
    whole: Duration,
    left: Duration,
}

fn timed_out(limit: Duration) -> String {
    format!("Error: Execution timed out after {} seconds", limit.as_secs_f64())
}

/// Other code was not done in time.
fn busy(limit: Duration) -> Ran {
    let line = |text| Line { stream: "stderr", text };
    let reason = "The interpreter was busy with other code: this was not begun".to_owned();
    Ran { good: false, output: vec![line(timed_out(limit)), line(reason)], truncated: false }
}

async fn one(
    app: &App,
    key: &Key,
    language: Language,
    slot: &mut Option<Interpreter>,
    code: &str,
    times: Times,
    gone: oneshot::Receiver<()>,
) -> Result<Ran, Failure> {
    let mut lines = Lines::at_most(app.config.limits.output);
    if slot.as_mut().is_some_and(Interpreter::ended) {
        *slot = None;
        lines.say(Side::Err, "The interpreter had ended since: this is a new one, without its state".into());
    }
    let interpreter = match slot {
        Some(interpreter) => interpreter,
        None => {
            let new = slot.insert(Interpreter::begin(&app.engine, key, language).await?);
            new.ready(&mut lines).await.map_err(Failure::other)?;
            new
        }
    };
    let outcome = interpreter.run(code, times.left, gone, &mut lines).await.map_err(Failure::other);
    let timed_out = || timed_out(times.whole);
    let (good, stays) = match outcome {
        Ok(Outcome::Done(good)) => (good, true),
        Ok(Outcome::Interrupted) => {
            lines.say(Side::Err, timed_out());
            (false, true)
        }
        Ok(Outcome::Killed) => {
            lines.say(Side::Err, timed_out());
            lines.say(Side::Err, "The interpreter did not heed it and was ended: its state is lost".into());
            (false, false)
        }
        Ok(Outcome::Left(code)) => {
            if code != 0 {
                lines
                    .say(Side::Err, format!("The code ended its interpreter with {code}: its state is lost"));
            }
            (code == 0, false)
        }
        Ok(Outcome::Died(exit)) => {
            lines.say(Side::Err, format!("The interpreter ended ({exit:?}): its state is lost"));
            (false, false)
        }
        Err(failure) => {
            *slot = None;
            return Err(failure);
        }
    };
    if !stays {
        *slot = None;
    }
    let (output, truncated) = lines.finish();
    Ok(Ran { good, output, truncated })
}
