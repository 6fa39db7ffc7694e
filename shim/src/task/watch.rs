//! A container's life as its host sees it: memory that was short, and the end.

use std::{os::fd::AsFd, sync::Arc, thread, time::Duration};

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use msb_runtime::{
    host::{cgroup::Cgroup, pidfd},
    sandbox::child::Released,
    state::Process,
    verbs::Lent,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Exit, Shim, Task, lock};
use crate::events::timestamp;

/// How long the ends of execs are waited for, when their machine has gone.
const EXECS: Duration = Duration::from_secs(5);

/// The process that stands for a container.
#[derive(Debug)]
pub(super) enum Life {
    /// Of this shim's.
    Child(Released),
    /// Of an earlier shim's.
    Stranger(Process),
}

impl Shim {
    /// Waits for the end of the process that stands for it, and tells the container's end after those of its execs.
    pub(super) fn watch(&self, task: &Task, process: Life) {
        self.watch_memory(task);
        let exit = match process {
            Life::Child(child) => Exit::now(child.wait().map_or(Exit::LOST, u32::from)),
            Life::Stranger(other) => {
                wait(other);
                Exit::kept(self.look(task).ok().as_ref())
            }
        };
        let execs: Vec<_> =
            lock(&task.execs).values().filter(|exec| exec.is_started()).map(Arc::clone).collect();
        let ends = async {
            for exec in &execs {
                exec.process.wait().await;
            }
        };
        // One whose output nobody takes is told later.
        let _ = self.runtime.block_on(async { tokio::time::timeout(EXECS, ends).await });
        let _order = task.init.in_order();
        self.tell(
            task,
            &TaskExit {
                container_id: task.id.to_string(),
                id: task.id.to_string(),
                pid: task.pid,
                exit_status: exit.code,
                exited_at: Some(timestamp(exit.at)).into(),
                ..TaskExit::default()
            },
        );
        task.init.set_exit(exit);
    }

    /// Until that process's end, tells each time that the guest's kernel has killed for want of memory, which is made known
    /// in the container's cgroup.
    fn watch_memory(&self, task: &Task) {
        let Some(cgroup) = self.cgroup(task) else { return };
        let (Some(counts), Ok(process)) = (cgroup.watch_oom(), pidfd::open(task.pid)) else { return };
        let mut known = 0;
        loop {
            let mut fds = [
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
                PollFd::new(counts.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            }
            let ended = fds[0].any().unwrap_or(true);
            counts.clear();
            let kills = cgroup.oom_kills().unwrap_or(known);
            if kills > known {
                self.tell(task, &TaskOOM { container_id: task.id.to_string(), ..TaskOOM::default() });
                known = kills;
            }
            if ended {
                return;
            }
        }
    }

    /// Its cgroup on the host.
    pub(super) fn cgroup(&self, task: &Task) -> Option<Cgroup> {
        Lent::load(&self.look(task).ok()?).ok()??.cgroup().ok()?
    }
}

/// When a process is looked at again that could not be.
const AGAIN: Duration = Duration::from_secs(1);

/// Returns once it has ended.
fn wait(process: Process) {
    let descriptor = loop {
        match pidfd::open(process.pid.unsigned_abs()) {
            Ok(descriptor) => break descriptor,
            Err(_) if !process.is_alive() => return,
            // A host that is short of something: that is not its end.
            Err(_) => thread::sleep(AGAIN),
        }
    };
    // The descriptor may be of a later process of that pid.
    while process.is_alive() {
        let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, PollTimeout::NONE), Ok(_) | Err(Errno::EINTR)) {
            return;
        }
    }
}
