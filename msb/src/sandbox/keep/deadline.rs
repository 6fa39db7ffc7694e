//! A sandbox that may run for so long and no longer, or so long while nobody uses it.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use msb_runtime::{
    state::{Id, Store},
    verbs::kill,
};
use nix::libc::{SIGKILL, SIGTERM};

use super::spawn;
use crate::sandbox::{Place, activity};

/// How long it has to end by itself once its time is up.
const GRACE: Duration = Duration::from_secs(10);

/// Ends the container after that time. One that has ended is no matter.
pub(super) fn after(time: Duration, id: Id, store: Store) {
    // Without a thread there is no deadline, and the sandbox can still be stopped.
    let _ = spawn("deadline", move || {
        thread::sleep(time);
        end(&id, &store);
    });
}

/// Ends the container of the sandbox at `place` once nobody has used it for that time.
pub(super) fn when_idle(time: Duration, place: Place, id: Id, store: Store) {
    let _ = spawn("idle", move || {
        // Where nothing is known, it is as if it were used now: it does not end for that.
        while let Some(rest) = left(time, activity::idle_since(&place).ok().flatten()) {
            thread::sleep(rest);
        }
        end(&id, &store);
    });
}

/// How long it may go on; none: its time is up.
fn left(time: Duration, since: Option<SystemTime>) -> Option<Duration> {
    let idle = since.map_or(Duration::ZERO, |since| since.elapsed().unwrap_or_default());
    time.checked_sub(idle).filter(|rest| !rest.is_zero())
}

/// With SIGTERM, then with SIGKILL.
fn end(id: &Id, store: &Store) {
    for (signal, pause) in [(SIGTERM, GRACE), (SIGKILL, Duration::ZERO)] {
        let Ok(entry) = store.look(id) else { return };
        let _ = kill::send(&entry, signal, false);
        thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_the_last_use() {
        let (minute, now) = (Duration::from_secs(60), SystemTime::now());
        assert_eq!(left(minute, None), Some(minute));
        let rest = left(minute, Some(now - Duration::from_secs(20))).unwrap();
        assert!((35..=40).contains(&rest.as_secs()), "{rest:?}");
        assert_eq!(left(minute, Some(now - minute)), None);
        assert_eq!(left(minute, Some(now + minute)), Some(minute), "a clock that was moved");
    }
}
