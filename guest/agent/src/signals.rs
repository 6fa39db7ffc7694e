//! Requests about living processes: signals, terminal sizes, who is there.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use msb_agent::protocol::{Failure, ProcessId, Reply, TerminalSize};
use nix::errno::Errno;

use crate::agent::Agent;
use crate::container::made::Made;
use crate::container::processes::describe;
use crate::container::tree::Tree;
use crate::container::{at, plain, setup};
use crate::sys;

/// Times that a family of processes is looked for; one that forks for longer than that forks faster than it can be killed.
const ROUNDS: usize = 200;
/// Between two looks: what was killed needs a moment to be gone.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends a signal to one process, or with `all` to every process of its container; where it is not the container's first, to
/// itself and all that came of it.
///
/// # Errors
/// [`Failure::NoSuchProcess`] when it has ended, also with `all`.
pub fn send(agent: &Agent, process: ProcessId, signal: i32, all: bool) -> Result<Reply, Failure> {
    if !(1..=64).contains(&signal) {
        return Err(setup(format!("send signal {signal}"), &"there is no such signal"));
    }
    let registry = agent.registry();
    let record = registry.alive(process)?;
    if !all {
        return sent(sys::kill(record.pid, signal));
    }
    let made = Arc::clone(&record.container);
    if !record.first {
        let pid = record.pid;
        drop(registry);
        family(&made, pid, signal);
        return Ok(Reply::Done);
    }
    if signal == libc::SIGKILL {
        drop(registry);
        made.cgroup.kill();
        return Ok(Reply::Done);
    }
    for pid in made.cgroup.processes() {
        // One that ends meanwhile needs no signal any more.
        let _ = i32::try_from(pid).map(|pid| sys::kill(pid, signal));
    }
    Ok(Reply::Done)
}

/// Sends a signal to the process `pid` of a container, and to all that came of it. When it returns from SIGKILL,
/// none is left, or so many rounds have passed.
fn family(made: &Made, pid: i32, signal: i32) {
    let Ok(leader) = u32::try_from(pid) else { return };
    let mut tree = Tree::of(leader);
    for _ in 0..ROUNDS {
        let living = tree.living(&made.cgroup.processes());
        for pid in &living {
            // One that ends meanwhile needs no signal any more.
            let _ = i32::try_from(*pid).map(|pid| sys::kill(pid, signal));
        }
        if living.is_empty() || signal != libc::SIGKILL {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Gives a process's terminal a size.
///
/// # Errors
/// [`Failure::WrongState`] for a process without a terminal.
pub fn resize(agent: &Agent, process: ProcessId, size: TerminalSize) -> Result<Reply, Failure> {
    let terminal = agent.registry().alive(process)?.streams.terminal();
    let terminal =
        terminal.ok_or_else(|| Failure::WrongState { reason: "the process has no terminal".into() })?;
    sys::resize(terminal.as_fd(), size.rows, size.columns)
        .map_err(plain)
        .map_err(at(|| "resize the terminal".into()))?;
    Ok(Reply::Done)
}

/// The container's processes, the first one first.
pub fn processes(made: &Made) -> Reply {
    let first = made.init().and_then(|init| u32::try_from(init.pid).ok());
    let mut pids = made.cgroup.processes();
    pids.sort_unstable_by_key(|pid| (Some(*pid) != first, *pid));
    Reply::Processes(describe(&pids))
}

fn sent(result: Result<(), Errno>) -> Result<Reply, Failure> {
    match result {
        Ok(()) => Ok(Reply::Done),
        Err(Errno::ESRCH) => Err(Failure::NoSuchProcess),
        Err(errno) => Err(setup("send a signal", &plain(errno))),
    }
}
