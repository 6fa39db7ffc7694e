//! What is done to a task as a whole, by way of its container.

use containerd_shim_protos::{
    events::task::{TaskDelete, TaskPaused, TaskResumed, TaskStart},
    protobuf::well_known_types::any::Any,
};
use msb_agent::protocol::{ProcessId, ProcessInfo, TerminalSize};
use msb_runtime::{
    host::{cgroup::CpuTime, guest_time},
    state::{StateError, Status},
    verbs::{VerbError, delete, kill, pause, resume, start, update},
};
use oci_spec::runtime::LinuxResources;

use super::{Exit, Phase, Shim, Task};
use crate::{events::timestamp, failure::Failure, metrics, mounts};

/// Docker's namespace. Its `top` looks at processes of the host.
const DOCKER: &str = "moby";

impl Shim {
    /// Lets the first process go; returns the VMM's pid.
    pub fn start(&self, task: &Task) -> Result<u32, Failure> {
        let _order = task.init.in_order();
        let entry = self.entry(task)?;
        let record = entry.record()?;
        start::start(&entry, record, &self.context(false)).map_err(Failure::oci("start"))?;
        self.tell(
            task,
            &TaskStart { container_id: task.id.to_string(), pid: task.pid, ..TaskStart::default() },
        );
        Ok(task.pid)
    }

    /// Sends the first process, or all of them, a signal.
    pub fn kill(&self, task: &Task, signal: u32, all: bool) -> Result<(), Failure> {
        if task.init.exit().is_some() {
            return Err(Failure::Finished);
        }
        let signal = number(signal)?;
        match kill::send(&self.look(task)?, signal, all) {
            Err(VerbError::State(StateError::NotRunning)) => return Err(Failure::Finished),
            done => done?,
        }
        Ok(())
    }

    /// Removes a task that has ended, or was never started.
    pub fn delete(&self, task: &Task) -> Result<Exit, Failure> {
        let mut force = false;
        if task.init.exit().is_none() {
            match self.look(task)?.record()?.status() {
                Status::Creating | Status::Created => force = true,
                Status::Running | Status::Paused | Status::Stopped => {
                    return Err(Failure::State("cannot delete a running process"));
                }
            }
        }
        let deleted = match delete::delete(&task.id, force, &self.context(false)) {
            // Somebody else has.
            Err(VerbError::State(StateError::DoesNotExist)) => Ok(()),
            // A root that could not be written back is told of at the end: the container is gone, and so is the task.
            Err(error) if self.look(task).is_err() => Err(error),
            done => Ok(done?),
        };
        // Ended just now, if it was never started.
        let exit = self.runtime.block_on(task.init.wait());
        mounts::unmount_all(&task.bundle.join(mounts::ROOT))?;
        self.tasks().remove(task.id.as_str());
        self.tell(
            task,
            &TaskDelete {
                container_id: task.id.to_string(),
                pid: task.pid,
                exit_status: exit.code,
                exited_at: Some(timestamp(exit.at)).into(),
                ..TaskDelete::default()
            },
        );
        deleted?;
        Ok(exit)
    }

    /// Its processes stand still, and what they wrote is in the root.
    pub fn pause(&self, task: &Task) -> Result<(), Failure> {
        pause::pause(&self.entry(task)?)?;
        self.tell(task, &TaskPaused { container_id: task.id.to_string(), ..TaskPaused::default() });
        Ok(())
    }

    /// They go on.
    pub fn resume(&self, task: &Task) -> Result<(), Failure> {
        resume::resume(&self.entry(task)?)?;
        self.tell(task, &TaskResumed { container_id: task.id.to_string(), ..TaskResumed::default() });
        Ok(())
    }

    /// Other limits, as JSON of `linux.resources`.
    pub fn update(&self, task: &Task, resources: &[u8]) -> Result<(), Failure> {
        let resources: LinuxResources = serde_json::from_slice(resources)
            .map_err(|error| Failure::wrong("The resources are not what linux.resources may be", error))?;
        Ok(update::update(&self.entry(task)?, &resources)?)
    }

    /// What it uses.
    pub fn statistics(&self, task: &Task) -> Result<Any, Failure> {
        self.alive(task)?;
        let cgroup = self.cgroup(task);
        let version = match &cgroup {
            Some(cgroup) if !cgroup.is_version_2() => metrics::Version::One,
            _ => metrics::Version::Two,
        };
        let mut machine = cgroup.and_then(|cgroup| cgroup.cpu_time());
        let found = task.control().statistics()?;
        if task.pods {
            // All containers' work is the machine's, and is told of each: here its own, and what the VMM did for all.
            let guests = guest_time::of(task.pid)
                .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
            machine = machine.map(|CpuTime { usage, user, system }| CpuTime {
                usage: found.cpu.usage.saturating_add(usage.saturating_sub(guests)),
                user,
                system,
            });
        }
        Ok(metrics::any(found, machine, version))
    }

    /// The pids of its processes: those of the guest, the first one first. Docker keeps the lines of the host's `ps(1)` that
    /// have these pids, and the guest's mean nothing there: it is given what stands for all of them on the host. So is who
    /// asks of a task that has ended, or does not run yet and may be busy with its hooks: a containerd that was restarted
    /// throws away shims that do not tell pids at once, and with them exit codes that nobody has seen.
    pub fn pids(&self, task: &Task) -> Result<Vec<u32>, Failure> {
        if self.namespace == DOCKER || matches!(task.phase(self)?, Phase::Created | Phase::Stopped) {
            return Ok(vec![task.pid]);
        }
        Ok(task.control().processes()?.iter().map(|ProcessInfo { pid, .. }| *pid).collect())
    }

    /// Its terminal has another size.
    pub fn resize(&self, task: &Task, size: TerminalSize) -> Result<(), Failure> {
        self.alive(task)?;
        Ok(task.control().resize(ProcessId::INIT, size)?)
    }

    fn alive(&self, task: &Task) -> Result<(), Failure> {
        match task.init.exit() {
            Some(_) => Err(StateError::NotRunning.into()),
            None => Ok(()),
        }
    }
}

/// A signal that there is.
pub(super) fn number(signal: u32) -> Result<i32, Failure> {
    match i32::try_from(signal) {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(Failure::Wrong(format!("there is no signal {signal}"))),
    }
}
