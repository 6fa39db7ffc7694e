//! `events ID`: what the container uses, as runc tells it, and each time memory was short.

use std::{
    io::{self, Write},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use msb_runtime::{
    host::cgroup::Cgroup,
    plain,
    sandbox::control::{Control, ControlError},
    state::{Id, StateError, Status},
    verbs::{Context, Lent},
};
use serde_json::{Value, json};

use crate::statistics;

/// How often it is looked whether memory was short.
const LOOK: Duration = Duration::from_millis(100);

/// Print what a container uses, again and again.
#[derive(Debug, Args)]
pub struct Events {
    /// How often: 500ms, 5s, 1m.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = interval)]
    interval: Duration,
    /// Once, and return.
    #[arg(long)]
    stats: bool,
    /// Which container.
    id: String,
}

impl Events {
    /// Prints them until the container ends.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let id: Id = self.id.parse()?;
        let entry = context.store.look(&id)?;
        if matches!(entry.record()?.status(), Status::Stopped | Status::Creating) {
            return Err(StateError::NotRunning.into());
        }
        let control = Control::of(entry.directory());
        if self.stats {
            print(&event(&id, "stats", Some(statistics::data(&control.statistics()?))))?;
            return Ok(ExitCode::SUCCESS);
        }
        let cgroup = Lent::load(&entry)?.map(|lent| lent.cgroup()).transpose()?.flatten();
        let kills = || cgroup.as_ref().and_then(Cgroup::oom_kills).unwrap_or_default();
        let mut known = kills();
        let mut due = Instant::now();
        loop {
            let alive = entry.record().is_ok_and(|record| record.status() != Status::Stopped);
            let now = kills();
            if now > known {
                print(&event(&id, "oom", None))?;
            }
            known = now;
            if !alive {
                return Ok(ExitCode::SUCCESS);
            }
            if Instant::now() >= due {
                match control.statistics() {
                    Ok(found) => print(&event(&id, "stats", Some(statistics::data(&found))))?,
                    // It ends just now: once more, for what it ended of.
                    Err(ControlError::Gone(_) | ControlError::Silent(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                due = Instant::now() + self.interval;
            }
            thread::sleep(LOOK.min(self.interval));
        }
    }
}

fn event(id: &Id, kind: &str, data: Option<Value>) -> Value {
    match data {
        Some(data) => json!({ "type": kind, "id": id, "data": data }),
        None => json!({ "type": kind, "id": id }),
    }
}

/// One a line, at once: somebody reads along.
fn print(event: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", plain::json(&event.to_string()))?;
    out.flush()
}

/// As Go writes a duration, one unit of it.
fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write it like 500ms, 5s or 1m");
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    // As runc: an interval of nothing would never pause.
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("duration interval must be greater than 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "-1s", "0s", "5 days"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
