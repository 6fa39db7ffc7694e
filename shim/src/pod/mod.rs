//! Pods by containerd's sandbox API: containerd knows the sandbox as what it is, and no image is pulled for a container that
//! only waits.
//!
//! Enters: a pod as Kubernetes describes it, with its network namespace. Leaves: a task like that of any pod's sandbox, made
//! of a `config.json` of ours, which further containers come into as into any pod ([`crate::task`]); but of which containerd
//! is told as a sandbox alone, and no event. What only Kubernetes' messages have ends in [`config`].

mod config;
mod files;
mod service;
mod spec;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use msb_runtime::{
    bundle::Spec,
    state::Id,
    verbs::{Context, VerbError, delete, words},
};
use nix::sys::signal::Signal;

pub use files::Files;
pub use service::PodService;

use self::{config::Config, spec::Place};
use crate::{
    failure::Failure,
    mounts,
    stdio::Paths,
    task::{NewTask, Shim, StandBy, Task},
};

/// How long a sandbox may take to end by itself, if nobody says.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one that was killed may take: a guest that does not obey is ended before.
const KILLED: Duration = Duration::from_secs(75);

/// A sandbox to be made.
#[derive(Debug)]
pub struct NewSandbox {
    /// Its id.
    pub id: String,
    /// Its bundle, without any configuration.
    pub bundle: PathBuf,
    /// The pod.
    pub options: Any,
    /// Its network namespace; empty: none.
    pub network: String,
    /// The file with the host's settings, if not the usual one.
    pub settings: Option<PathBuf>,
}

impl Shim {
    /// Makes a pod's machine, whose first process waits for its start.
    pub fn create_sandbox(self: &Arc<Self>, new: NewSandbox) -> Result<(), Failure> {
        let NewSandbox { id, bundle, options, network, settings } = new;
        let pod = Config::read(&options).map_err(|error| Failure::Wrong(words::chain(&error)))?;
        let failed = |error| Failure::Broken(format!("The pod's files can't be made in its bundle: {error}"));
        let hostname = files::hostname(&pod).map_err(failed)?;
        let files = Files::make(&bundle, &pod, &hostname).map_err(failed)?;
        let (root, memory) = (&files.root(), &files.memory());
        let place = Place { id: &id, network: &network, root, memory };
        let configuration = spec::config(&pod, &hostname, &place).to_string();
        fs::write(bundle.join("config.json"), configuration).map_err(failed)?;
        self.create(NewTask { id, bundle, rootfs: Vec::new(), paths: Paths::default(), settings })?;
        Ok(())
    }

    /// Ends a sandbox, and with it whatever runs in it; returns when it has ended.
    pub fn stop_sandbox(self: &Arc<Self>, id: &str, patience: Option<Duration>) -> Result<(), Failure> {
        let task = self.sandbox(id)?;
        // Whether a guest answers at all is not waited for: the time for its end runs.
        if let Ok(asking) = StandBy::new("stop") {
            let (shim, task) = (Arc::clone(self), Arc::clone(&task));
            asking.begin(move || drop(shim.end(&task, Signal::SIGTERM)));
        }
        let init = &task.init;
        let ended = |patience| async move { tokio::time::timeout(patience, init.wait()).await };
        if self.runtime.block_on(ended(patience.unwrap_or(PATIENCE))).is_err() {
            self.end(&task, Signal::SIGKILL)?;
            let killed = self.runtime.block_on(ended(KILLED));
            killed.map_err(|_| Failure::Broken(format!("The sandbox {id} was killed and has not ended")))?;
        }
        Ok(())
    }

    fn end(&self, task: &Task, signal: Signal) -> Result<(), Failure> {
        match self.kill(task, (signal as i32).unsigned_abs(), false) {
            Err(Failure::Finished) => Ok(()),
            done => done,
        }
    }

    /// Removes a sandbox, ended or not, with what is left in it; one that never came to be is as good.
    pub fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<(), Failure> {
        let Ok(task) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id, Some(Duration::ZERO))?;
        let mut removed = Ok(());
        for other in self.all().into_iter().filter(|other| other.id != task.id) {
            // They end with it; one that does not is told of.
            let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, other.init.wait()).await });
            removed = removed.and(self.delete(&other).map(drop));
        }
        if self.all().iter().all(|other| other.id == task.id) {
            // What could not be written back of one that is gone keeps no pod.
            self.delete(&task)?;
        }
        removed
    }

    /// The sandbox of an id.
    fn sandbox(&self, id: &str) -> Result<Arc<Task>, Failure> {
        let not_found = || Failure::NotFound { what: "sandbox", id: id.to_owned() };
        self.task(id).ok().filter(|task| Files::of(&task.bundle).is_some()).ok_or_else(not_found)
    }

    /// The configuration of a container, which has the files of its pod where that is one of the sandbox API's.
    pub fn with_pods_files(&self, spec: Spec) -> Result<Spec, Failure> {
        let annotations = spec.annotations();
        let named = crate::group::named(|label| annotations.get(label).map(String::as_str));
        let pod = named.and_then(|id| Some((id, Files::of(&self.task(id).ok()?.bundle)?)));
        let Some((id, files)) = pod else { return Ok(spec) };
        let mounts = files.mounts(id, spec.mounts().to_vec());
        Ok(spec.with_mounts(mounts).map_err(VerbError::from)?)
    }
}

/// When the sandbox in `bundle` was made.
fn made(bundle: &Path) -> Option<SystemTime> {
    fs::metadata(bundle.join("config.json")).ok()?.modified().ok()
}

/// Removes what the containers of the sandbox `id` have left, whose shim and machine are gone: containerd asks for that of the
/// sandbox alone. All are tried, and the first failure is told.
pub fn remove_members(id: &Id, context: &Context) -> Result<(), VerbError> {
    let mut done = Ok(());
    for found in context.store.ids().unwrap_or_default() {
        let record = context.store.look(&found).and_then(|entry| entry.record());
        let Ok(record) = record else { continue };
        if record.pod.is_some_and(|pod| pod.sandbox == *id) {
            done = done.and(delete::delete(&found, true, context));
            // What stays mounted shows in what containerd says of the bundle.
            let _ = mounts::unmount_all(&record.bundle.join(mounts::ROOT));
        }
    }
    done
}
