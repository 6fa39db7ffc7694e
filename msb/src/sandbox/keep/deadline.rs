//! A sandbox that may run for so long and no longer, or so long while nobody uses it.

use std::{thread, time::Duration};

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
        while let Some(rest) = left(time, activity::idle(&place).ok().flatten()) {
            thread::sleep(rest);
        }
        end(&id, &store);
    });
}

/// How long it may go on; none: its time is up.
fn left(time: Duration, idle: Option<Duration>) -> Option<Duration> {
    time.checked_sub(idle.unwrap_or_default()).filter(|rest| !rest.is_zero())
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
        let minute = Duration::from_secs(60);
        assert_eq!(left(minute, None), Some(minute));
        assert_eq!(left(minute, Some(minute / 3)), Some(minute * 2 / 3));
        assert_eq!(left(minute, Some(minute)), None);
        assert_eq!(left(minute, Some(minute * 2)), None);
    }
}
