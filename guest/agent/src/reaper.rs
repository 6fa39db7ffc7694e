//! Pid 1's first duty: every child and every orphan is waited for, and the host hears how its processes ended.
//!
//! A pid is looked up before it is reaped (`WNOWAIT`), under the lock under which processes are made: so no pid is ever
//! taken for a newer process's, and none can end before it is registered.

use std::sync::Arc;
use std::thread;

use msb_agent::protocol::{Event, ExitStatus, FromAgent};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use crate::agent::Agent;
use crate::container::made::Made;
use crate::log;
use crate::process::record::Record;

/// Stack of a thread that brings a process to its end.
const STACK: usize = 48 << 10;

/// Reaps for ever. `SIGCHLD` must be blocked in every thread.
pub fn run(agent: &Arc<Agent>) -> ! {
    let child = SigSet::from(Signal::SIGCHLD);
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                // The signal is kept while it is blocked: one that came before the wait ends it at once.
                let _ = child.wait();
            }
            Ok(status) => {
                if let Some(pid) = status.pid() {
                    reap(agent, pid);
                }
            }
            Err(_) => {}
        }
    }
}

fn reap(agent: &Arc<Agent>, pid: nix::unistd::Pid) {
    let mut registry = agent.registry();
    let record = registry.reaped(pid.as_raw());
    let status = waitpid(pid, None);
    drop(registry);
    let (Some(record), Ok(status)) = (record, status) else { return };
    let status = exit_status(status);
    let (shared, ending) = (Arc::clone(agent), Arc::clone(&record));
    let spawned = thread::Builder::new().stack_size(STACK).spawn(move || finish(&shared, &ending, status));
    if let Err(error) = spawned {
        log::failure("end a process on a thread", &error);
        finish(agent, &record, status);
    }
}

/// From the exit to the last message.
fn finish(agent: &Agent, record: &Record, status: ExitStatus) {
    let made = &record.container;
    if record.first {
        // With a pid namespace of its own the kernel has done it; without, and for an exec of another one, it is done here.
        agent.registry().kill_execs(made);
        made.cgroup.kill();
    }
    let known = record.is_known();
    record.streams.finish();
    if record.first && (known || made.is_first()) {
        end(agent, made);
    }
    agent.registry().remove(record.id);
    if known {
        record.owner.send(&FromAgent::Event(Event::Exited { process: record.id, status }));
    }
}

/// The first process of a container has ended, and with it the container. What could not even be made, its maker undoes.
fn end(agent: &Agent, made: &Arc<Made>) {
    if made.is_first() {
        // The guest ends with it.
        for other in agent.all().iter().filter(|other| !other.is_first()) {
            other.cgroup.kill();
            other.end();
        }
    }
    made.end();
    // Before the end, or the host could not tell why it ended.
    made.oom.tell();
    if !made.is_first() {
        made.leave();
        agent.forget(made);
        // Each knows the other.
        made.set_init(None);
    }
}

/// How a process ended, in the protocol's words.
fn exit_status(status: WaitStatus) -> ExitStatus {
    match status {
        WaitStatus::Exited(_, code) => ExitStatus::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => {
            let number: libc::c_int = signal as libc::c_int;
            ExitStatus::Signal(u8::try_from(number).unwrap_or(0))
        }
        // waitpid without options reports nothing else.
        _ => ExitStatus::Code(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn the_protocols_words() {
        let pid = Pid::from_raw(2);
        assert_eq!(exit_status(WaitStatus::Exited(pid, 7)), ExitStatus::Code(7));
        assert_eq!(exit_status(WaitStatus::Signaled(pid, Signal::SIGKILL, false)), ExitStatus::Signal(9));
        assert_eq!(exit_status(WaitStatus::Signaled(pid, Signal::SIGTERM, true)).exit_code(), 143);
    }
}
