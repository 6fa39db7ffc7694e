//! A sandbox that may run for so long and no longer.

use std::{thread, time::Duration};

use msb_runtime::{
    state::{Id, Store},
    verbs::kill,
};
use nix::libc::{SIGKILL, SIGTERM};

use super::spawn;

/// How long it has to end by itself once its time is up.
const GRACE: Duration = Duration::from_secs(10);

/// Ends the container after that time: with SIGTERM, then with SIGKILL. One that has ended is no matter.
pub(super) fn after(time: Duration, id: Id, store: Store) {
    let end = move || {
        thread::sleep(time);
        for (signal, pause) in [(SIGTERM, GRACE), (SIGKILL, Duration::ZERO)] {
            let Ok(entry) = store.look(&id) else { return };
            let _ = kill::send(&entry, signal, false);
            thread::sleep(pause);
        }
    };
    // Without a thread there is no deadline, and the sandbox can still be stopped.
    let _ = spawn("deadline", end);
}
