//! What all threads of the agent share: the containers and their processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use msb_agent::protocol::{Failure, ProcessId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::made::Made;
use crate::container::place::Place;
use crate::names;
use crate::process::record::Record;
use crate::serve::Channel;

/// How long a container that is killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent.
#[derive(Debug, Default)]
pub struct Agent {
    registry: Mutex<Registry>,
    containers: Mutex<Containers>,
    /// Held while a further container is made, and while disks are let go.
    further: Mutex<()>,
    /// Names are served.
    names: Mutex<bool>,
}

/// The containers, from the creation of each to its end.
#[derive(Debug, Default)]
struct Containers {
    all: Vec<Arc<Made>>,
    /// How many places were given away.
    places: u32,
}

impl Agent {
    /// A place for one more container. There is one first container per guest, also if making it failed.
    ///
    /// # Errors
    /// [`Failure::WrongState`] as long as, and after, there is no first one.
    pub fn claim(&self) -> Result<Place, Failure> {
        let mut containers = self.containers();
        let number = containers.places;
        if number > 0 && containers.all.iter().all(|made| !made.is_first()) {
            return Err(wrong("this sandbox has no first container any more"));
        }
        containers.places = number.checked_add(1).ok_or_else(|| wrong("it had too many containers"))?;
        Ok(if number == 0 { Place::first() } else { Place::further(number) })
    }

    /// Nothing else is done to further containers and their disks meanwhile.
    pub fn further(&self) -> MutexGuard<'_, ()> {
        self.further.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a container.
    pub fn add(&self, made: &Arc<Made>) {
        self.containers().all.push(Arc::clone(made));
    }

    /// Forgets one.
    pub fn forget(&self, made: &Arc<Made>) {
        self.containers().all.retain(|other| !Arc::ptr_eq(other, made));
    }

    /// The first container, whose end is the guest's.
    ///
    /// # Errors
    /// [`Failure::WrongState`] before it is created.
    pub fn first(&self) -> Result<Arc<Made>, Failure> {
        let containers = self.containers();
        let first = containers.all.iter().find(|made| made.is_first()).map(Arc::clone);
        first.ok_or_else(|| wrong("the container was not created yet"))
    }

    /// The container whose first process this is.
    ///
    /// # Errors
    /// [`Failure::NoSuchProcess`].
    pub fn of(&self, first: ProcessId) -> Result<Arc<Made>, Failure> {
        let is = |made: &&Arc<Made>| made.init().is_some_and(|init| init.id == first);
        self.containers().all.iter().find(is).map(Arc::clone).ok_or(Failure::NoSuchProcess)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Made>> {
        self.containers().all.clone()
    }

    /// Kills every further container that is on one of these disks, and waits until it is gone.
    ///
    /// # Errors
    /// [`Failure::Setup`] when it does not end.
    pub fn clear(&self, devices: &[String]) -> Result<(), Failure> {
        let on = |made: &Arc<Made>| !made.is_first() && made.devices.iter().any(|one| devices.contains(one));
        let deadline = Instant::now() + PATIENCE;
        while let Some(made) = self.all().into_iter().find(on) {
            made.cgroup.kill();
            if Instant::now() > deadline {
                return Err(crate::container::setup("let disks go", &"the container on them does not end"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Serves names to the first container, once.
    ///
    /// # Errors
    /// [`Failure::WrongState`] before the container is created, [`Failure::Setup`].
    pub fn serve_names(&self) -> Result<(), Failure> {
        let made = self.first()?;
        let mut served = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !*served {
            names::serve(made.cgroup.descriptor())?;
            *served = true;
        }
        Ok(())
    }

    /// The processes.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(reason: &str) -> Failure {
    Failure::WrongState { reason: reason.into() }
}

/// Every process whose last message was not sent yet.
#[derive(Debug, Default)]
pub struct Registry {
    processes: BTreeMap<ProcessId, Entry>,
    last: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// Not reaped yet, so the pid is its own.
    alive: bool,
}

impl Registry {
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

    /// Kills every process of a container but its first, which has ended.
    pub fn kill_execs(&self, made: &Arc<Made>) {
        let of = |entry: &&Entry| !entry.record.first && Arc::ptr_eq(&entry.record.container, made);
        for entry in self.processes.values().filter(of) {
            self.kill(entry.record.id);
        }
    }

    /// The record of a process whose last message was not sent yet.
    pub fn find(&self, id: ProcessId) -> Option<&Arc<Record>> {
        self.processes.get(&id).map(|entry| &entry.record)
    }
}
