//! Execs: more processes of a container, each with a channel of its own to the guest and no process on the host.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use containerd_shim_protos::events::task::{TaskExecAdded, TaskExecStarted, TaskExit};
use msb_agent::protocol::{Failure as GuestFailure, ProcessId, TerminalSize};
use msb_runtime::{
    bundle,
    process::attach::{self, Attached, DRAIN},
    sandbox::control::ControlError,
    state::Store,
    verbs::{VerbError, exec, pod},
};

use super::{Exit, Phase, Process, Shim, Task, init::number, lock, stand_by::StandBy};
use crate::{
    events::timestamp,
    failure::Failure,
    stdio::{Paths, Streams},
};

/// An exec.
#[derive(Debug)]
pub struct Exec {
    /// As its caller calls it.
    pub id: String,
    /// What all processes have.
    pub process: Process,
    spec: bundle::Process,
    guest: Mutex<Option<Guest>>,
}

/// What the guest calls it.
#[derive(Debug, Clone, Copy)]
struct Guest {
    process: ProcessId,
    pid: u32,
}

impl Exec {
    /// Whether it was started.
    pub fn is_started(&self) -> bool {
        self.guest().is_some()
    }

    /// Its pid in the guest; 0 before it is started.
    pub fn pid(&self) -> u32 {
        self.guest().map_or(0, |guest| guest.pid)
    }

    /// What it is, in a container that is `task`.
    pub fn phase(&self, task: Phase) -> Phase {
        match (self.is_started(), self.process.exit()) {
            (_, Some(_)) => Phase::Stopped,
            (false, None) => Phase::Created,
            (true, None) if task == Phase::Paused => Phase::Paused,
            (true, None) => Phase::Running,
        }
    }

    fn guest(&self) -> Option<Guest> {
        *lock(&self.guest)
    }
}

impl Shim {
    /// Adds an exec, whose process is given as JSON.
    pub fn exec(&self, task: &Task, id: &str, paths: Paths, spec: &[u8]) -> Result<(), Failure> {
        if task.init.exit().is_some() {
            return Err(VerbError::ExecStopped.into());
        }
        let spec = serde_json::from_slice(spec)
            .map_err(|error| Failure::wrong("The process is not what config.json may have", error))?;
        let spec = bundle::Process::check(spec).map_err(VerbError::from)?;
        let paths = Paths { terminal: spec.terminal(), ..paths };
        let exec = Exec { id: id.to_owned(), process: Process::new(paths), spec, guest: Mutex::default() };
        let mut execs = lock(&task.execs);
        if execs.contains_key(id) {
            return Err(Failure::Exists { what: "process", id: id.to_owned() });
        }
        execs.insert(id.to_owned(), Arc::new(exec));
        drop(execs);
        self.events.publish(&TaskExecAdded {
            container_id: task.id.to_string(),
            exec_id: id.to_owned(),
            ..TaskExecAdded::default()
        });
        Ok(())
    }

    /// Runs it; returns its pid in the guest.
    pub fn start_exec(self: &Arc<Self>, task: &Arc<Task>, exec: &Arc<Exec>) -> Result<u32, Failure> {
        let _order = exec.process.in_order();
        if exec.is_started() {
            return Err(Failure::State("process already started"));
        }
        exec::ready(&self.look(task)?, false).map_err(Failure::oci("exec"))?;
        let watcher = StandBy::new("watch").map_err(Failure::Thread)?;
        let Streams { descriptors, has_stdin, input } = exec.process.paths.open(&self.owner(&task.id))?;
        exec.process.keep_input(input);
        let mut attached = self.attach(task, exec, descriptors, has_stdin).map_err(Failure::oci("exec"))?;
        let guest = Guest { process: attached.process(), pid: attached.pid() };
        attached.release().map_err(VerbError::from).map_err(Failure::oci("exec"))?;
        *lock(&exec.guest) = Some(guest);
        self.events.publish(&TaskExecStarted {
            container_id: task.id.to_string(),
            exec_id: exec.id.clone(),
            pid: guest.pid,
            ..TaskExecStarted::default()
        });
        let (shim, task, exec) = (Arc::clone(self), Arc::clone(task), Arc::clone(exec));
        watcher.begin(move || shim.watch_exec(&task, &exec, attached));
        Ok(guest.pid)
    }

    fn attach(
        &self,
        task: &Task,
        exec: &Exec,
        descriptors: [OwnedFd; 3],
        has_stdin: bool,
    ) -> Result<Attached, VerbError> {
        let entry = Store::new(self.root.clone()).look(&task.id)?;
        let process = exec::prepare(&entry, &exec.spec, has_stdin)?;
        let guest = pod::guest(&entry, &entry.record()?);
        let door = |port| guest.control.open(port);
        Ok(attach::create(&door, guest.container, process, descriptors, None)?)
    }

    /// Waits for its end and tells it.
    fn watch_exec(&self, task: &Task, exec: &Exec, attached: Attached) {
        let exit =
            Exit::now(attached.wait(Some(DRAIN)).map_or(Exit::LOST, |status| status.exit_code().into()));
        let _order = exec.process.in_order();
        self.events.publish(&TaskExit {
            container_id: task.id.to_string(),
            id: exec.id.clone(),
            pid: exec.pid(),
            exit_status: exit.code,
            exited_at: Some(timestamp(exit.at)).into(),
            ..TaskExit::default()
        });
        exec.process.set_exit(exit);
    }

    /// Sends it a signal.
    pub fn kill_exec(&self, task: &Task, exec: &Exec, signal: u32) -> Result<(), Failure> {
        let guest = match (exec.process.exit(), exec.guest()) {
            (Some(_), _) => return Err(Failure::Finished),
            (None, None) => return Err(Failure::State("process was not started")),
            (None, Some(guest)) => guest,
        };
        match task.control().signal_process(guest.process, number(signal)?) {
            Err(ControlError::Guest(GuestFailure::NoSuchProcess)) => Err(Failure::Finished),
            done => Ok(done?),
        }
    }

    /// Its terminal has another size; one that does not run has none.
    pub fn resize_exec(&self, task: &Task, exec: &Exec, size: TerminalSize) -> Result<(), Failure> {
        match exec.guest() {
            Some(guest) if exec.process.exit().is_none() => Ok(task.control().resize(guest.process, size)?),
            _ => Ok(()),
        }
    }

    /// Removes one that has ended or was never started.
    pub fn delete_exec(&self, task: &Task, exec: &Exec) -> Result<Exit, Failure> {
        let exit = match exec.process.exit() {
            Some(exit) => exit,
            None if exec.is_started() => return Err(Failure::State("cannot delete a running process")),
            None => Exit::now(0),
        };
        lock(&task.execs).remove(&exec.id);
        Ok(exit)
    }
}
