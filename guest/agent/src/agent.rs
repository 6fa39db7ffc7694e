//! What all threads of the agent share: the one container and its processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use msb_agent::protocol::{Failure, Process, ProcessId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::cgroup::{Cgroup, oom};
use crate::container::namespaces::Isolation;
use crate::container::root::Mounted;
use crate::names;
use crate::process::record::Record;
use crate::serve::Channel;

/// The agent.
#[derive(Debug, Default)]
pub struct Agent {
    registry: Mutex<Registry>,
    container: OnceLock<Made>,
    /// Names are served.
    names: Mutex<bool>,
}

/// The container, from its creation to the guest's end.
#[derive(Debug)]
pub struct Made {
    /// Its root.
    pub root: Mounted,
    /// Its processes.
    pub cgroup: Cgroup,
    /// What an exec has to join.
    pub isolation: Isolation,
    /// Who is killed for want of memory.
    pub oom: oom::Watch,
    /// As the first process was asked for: an exec gets what it leaves open from it.
    pub asked: Process,
    init: OnceLock<Arc<Record>>,
}

impl Made {
    /// A container without a process.
    pub fn new(root: Mounted, cgroup: Cgroup, isolation: Isolation, oom: oom::Watch, asked: Process) -> Self {
        Self { root, cgroup, isolation, oom, asked, init: OnceLock::new() }
    }

    /// Its first process, once that is ready.
    pub fn init(&self) -> Option<&Arc<Record>> {
        self.init.get()
    }

    /// Its first process is ready. There is only ever one.
    pub fn set_init(&self, record: &Arc<Record>) {
        let _ = self.init.set(Arc::clone(record));
    }
}

impl Agent {
    /// The container.
    ///
    /// # Errors
    /// [`Failure::WrongState`] before it is created.
    pub fn container(&self) -> Result<&Made, Failure> {
        self.container
            .get()
            .ok_or_else(|| Failure::WrongState { reason: "the container was not created yet".into() })
    }

    /// Keeps the container. A second one is refused before anything is made, by [`Registry::claim`].
    pub fn set_container(&self, made: Made) {
        let _ = self.container.set(made);
    }

    /// Serves names to the container, once.
    ///
    /// # Errors
    /// [`Failure::WrongState`] before the container is created, [`Failure::Setup`].
    pub fn serve_names(&self) -> Result<(), Failure> {
        let cgroup = self.container()?.cgroup.descriptor();
        let mut served = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !*served {
            names::serve(cgroup)?;
            *served = true;
        }
        Ok(())
    }

    /// The processes.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every process whose last message was not sent yet.
#[derive(Debug, Default)]
pub struct Registry {
    processes: BTreeMap<ProcessId, Entry>,
    last: Option<u32>,
    claimed: bool,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// Not reaped yet, so the pid is its own.
    alive: bool,
}

impl Registry {
    /// There is one container per sandbox, also if making it failed.
    ///
    /// # Errors
    /// [`Failure::WrongState`] the second time.
    pub fn claim(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.claimed, true) {
            return Err(Failure::WrongState { reason: "this sandbox has its container already".into() });
        }
        Ok(())
    }

    /// Makes a process and its record in one step: its end can't be noticed in between, because reaping needs this lock.
    ///
    /// # Errors
    /// What `make` says.
    pub fn add(
        &mut self,
        make: impl FnOnce(ProcessId) -> Result<Record, Failure>,
    ) -> Result<Arc<Record>, Failure> {
        let number = self.last.map_or(0, |last| last.wrapping_add(1));
        let record = Arc::new(make(ProcessId(number))?);
        self.last = Some(number);
        self.processes.insert(record.id, Entry { record: Arc::clone(&record), alive: true });
        Ok(record)
    }

    /// The process with this pid, from now on reaped.
    pub fn reaped(&mut self, pid: i32) -> Option<Arc<Record>> {
        let entry = self.processes.values_mut().find(|entry| entry.alive && entry.record.pid == pid)?;
        entry.alive = false;
        Some(Arc::clone(&entry.record))
    }

    /// Its last message was sent.
    pub fn remove(&mut self, id: ProcessId) {
        self.processes.remove(&id);
    }

    /// A process that lives.
    ///
    /// # Errors
    /// [`Failure::NoSuchProcess`].
    pub fn alive(&self, id: ProcessId) -> Result<&Arc<Record>, Failure> {
        match self.processes.get(&id) {
            Some(entry) if entry.alive => Ok(&entry.record),
            Some(_) | None => Err(Failure::NoSuchProcess),
        }
    }

    /// Kills a process, if it lives.
    pub fn kill(&self, id: ProcessId) {
        if let Ok(record) = self.alive(id) {
            // It may be a zombie already.
            let _ = kill(Pid::from_raw(record.pid), Signal::SIGKILL);
        }
    }

    /// Kills what a channel has made: its owner is gone.
    pub fn abandon(&self, channel: &Arc<Channel>) {
        for entry in self.processes.values().filter(|entry| Arc::ptr_eq(&entry.record.owner, channel)) {
            self.kill(entry.record.id);
        }
    }

    /// Kills every process but the first, which has ended.
    pub fn kill_execs(&self) {
        for id in self.processes.keys().filter(|id| **id != ProcessId::INIT) {
            self.kill(*id);
        }
    }

    /// The record of a process whose last message was not sent yet.
    pub fn find(&self, id: ProcessId) -> Option<&Arc<Record>> {
        self.processes.get(&id).map(|entry| &entry.record)
    }
}
