//! A shim that was killed leaves its machines running, and those that end meanwhile leave their exit codes. The next shim of the
//! same task, or of the same group, serves them: it finds them where every container is known.
//!
//! containerd itself never wants this: it has `delete` called for the tasks of a shim that does not answer. It is for those who
//! start the shim anew while containerd is away, and for a pod that gets a further container then. What ran as an exec has
//! ended with its shim, as the guest's agent ends what nobody owns.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use msb_runtime::state::{Entry, Id, Record, Stage, Store};

use super::{Process, Shim, Task, stand_by::StandBy, watch::Life};
use crate::{group, pod::Files, stdio::Paths};

/// Where the paths of its streams are kept beside a container's record.
pub(super) const STREAMS: &str = "streams";

impl Shim {
    /// Serves what an earlier shim of the task or group `id` has left. Containers that were still being made are left to
    /// containerd's `delete`.
    pub fn take_over(self: &Arc<Self>, id: &str) {
        let store = Store::new(self.root.clone());
        // The first one of a group has its name. Where there is none, nothing was left: that costs one look.
        if !id.parse::<Id>().is_ok_and(|first| store.look(&first).is_ok()) {
            return;
        }
        for found in store.ids().unwrap_or_default() {
            let Ok(entry) = store.look(&found) else { continue };
            let Ok(record) = entry.record() else { continue };
            let named = group::named(|label| record.annotations.get(label).map(String::as_str));
            if record.stage != Stage::Creating && named.unwrap_or(found.as_str()) == id {
                self.take(&entry, record);
            }
        }
    }

    fn take(self: &Arc<Self>, entry: &Entry, record: Record) {
        let paths = entry.load::<Paths>(STREAMS).ok().flatten().unwrap_or_default();
        let (id, process) = (record.id.to_string(), record.vmm);
        let task = Arc::new(Task {
            pods: record.takes_in,
            is_told: Files::of(&record.bundle).is_none(),
            id: record.id,
            bundle: record.bundle,
            pid: process.pid.unsigned_abs(),
            init: Process::new(paths),
            execs: Mutex::new(BTreeMap::new()),
            directory: entry.directory().to_owned(),
        });
        self.log.line("info", &format!("the task {id} is taken over from a shim that is gone"));
        self.tasks().insert(id.clone(), Arc::clone(&task));
        if process.is_alive() {
            match StandBy::new("watch") {
                Ok(watcher) => {
                    let shim = Arc::clone(self);
                    watcher.begin(move || shim.watch(&task, Life::Stranger(process)));
                }
                Err(error) => self.log.line("error", &format!("{id}: its end will not be told: {error}")),
            }
        } else {
            // Known before anybody asks: containerd throws a task away that can't say what has become of it.
            self.watch(&task, Life::Stranger(process));
        }
    }
}
