//! Requests about living processes: signals, terminal sizes, who is there.

use std::os::fd::AsFd;
use std::sync::Arc;

use msb_agent::protocol::{Failure, ProcessId, Reply, TerminalSize};
use nix::errno::Errno;

use crate::agent::Agent;
use crate::container::made::Made;
use crate::container::processes::describe;
use crate::container::{at, plain, setup};
use crate::sys;

/// Sends a signal to one process, or to every process of its container.
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
