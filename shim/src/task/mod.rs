//! The shim's tasks: what each request does, in order, with its events. No request's form is known here.
//!
//! A task is a container and its processes. The first one's life is that of a process here (the VMM, or in a pod what stands
//! for one of its containers); an exec's is told by the guest on a channel of
//! its own. What a shim that was killed has left is taken over by the next one ([`take_over`]). Each process has its end told once, after its start and, for the first one, after all execs' ends.

mod create;
mod exec;
mod init;
mod process;
mod stand_by;
mod take_over;
mod watch;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use msb_runtime::{
    sandbox::control::Control,
    state::{Entry, Id, Status, Store},
    verbs::Context,
};
use tokio::runtime::Handle;

pub use create::NewTask;
pub use exec::Exec;
pub use process::{Exit, Process};
pub use stand_by::StandBy;

use crate::{
    events::{Event, Events},
    failure::Failure,
    log::Log,
    stdio::Owner,
};

/// All that this shim has.
#[derive(Debug)]
pub struct Shim {
    /// Where its containers are known.
    pub root: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// Where events go.
    pub events: Events,
    /// Where the rest is told.
    pub log: Log,
    /// For threads that wait for what the runtime tells.
    pub runtime: Handle,
    tasks: Mutex<BTreeMap<String, Arc<Task>>>,
}

/// A container and its processes.
#[derive(Debug)]
pub struct Task {
    /// The container.
    pub id: Id,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Whether its machine is a pod's, whose other containers have processes of their own.
    pub pods: bool,
    /// Whether it is a task for containerd, with events: the sandbox of a pod by the sandbox API is none.
    is_told: bool,
    /// The pid of the process that stands for it: the VMM, or in a pod another one.
    pub pid: u32,
    /// Its first process.
    pub init: Process,
    /// The others.
    execs: Mutex<BTreeMap<String, Arc<Exec>>>,
    /// Its directory beneath [`Shim::root`].
    directory: PathBuf,
}

/// What a process is at this moment, in containerd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its start.
    Created,
    /// Runs.
    Running,
    /// Stands still, with its container.
    Paused,
    /// Has ended.
    Stopped,
}

impl Shim {
    /// Without any task.
    pub fn new(root: PathBuf, namespace: String, events: Events, log: Log, runtime: Handle) -> Self {
        Self { root, namespace, events, log, runtime, tasks: Mutex::default() }
    }

    /// The task of an id.
    pub fn task(&self, id: &str) -> Result<Arc<Task>, Failure> {
        let found = self.tasks().get(id).map(Arc::clone);
        found.ok_or_else(|| Failure::NotFound { what: "task", id: id.to_owned() })
    }

    /// Whether there is no task any more.
    pub fn is_idle(&self) -> bool {
        self.tasks().is_empty()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Task>> {
        self.tasks().values().map(Arc::clone).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Task>>> {
        lock(&self.tasks)
    }

    fn tell(&self, task: &Task, event: &impl Event) {
        if task.is_told {
            self.events.publish(event);
        }
    }

    fn context(&self, systemd_cgroup: bool) -> Context {
        let (store, tell) = (Store::new(self.root.clone()), Box::new(self.log.clone()));
        Context { store, systemd_cgroup, settings: None, tell }
    }

    /// Whose the streams of a container are.
    fn owner<'a>(&'a self, id: &'a Id) -> Owner<'a> {
        Owner { id: id.as_str(), namespace: &self.namespace }
    }

    /// The container's directory, to change it.
    fn entry(&self, task: &Task) -> Result<Entry, Failure> {
        Ok(Store::new(self.root.clone()).lock(&task.id)?)
    }

    /// The same, to look at.
    fn look(&self, task: &Task) -> Result<Entry, Failure> {
        Ok(Store::new(self.root.clone()).look(&task.id)?)
    }
}

impl Task {
    /// An exec of it.
    pub fn exec(&self, id: &str) -> Result<Arc<Exec>, Failure> {
        let found = lock(&self.execs).get(id).map(Arc::clone);
        found.ok_or_else(|| Failure::NotFound { what: "process", id: id.to_owned() })
    }

    /// To ask the sandbox.
    fn control(&self) -> Control {
        Control::of(&self.directory)
    }

    /// What its first process is.
    pub fn phase(&self, shim: &Shim) -> Result<Phase, Failure> {
        if self.init.exit().is_some() {
            return Ok(Phase::Stopped);
        }
        Ok(match shim.look(self)?.record()?.status() {
            Status::Creating | Status::Created => Phase::Created,
            Status::Paused => Phase::Paused,
            // A VMM that has ended just now is told as stopped once its exit code is known.
            Status::Running | Status::Stopped => Phase::Running,
        })
    }
}

/// What a panic of another thread has left is as good as before: nothing is changed in more than one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
