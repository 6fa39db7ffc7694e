//! Making a process and letting it go: the agent's half of the talk with a helper.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use msb_agent::protocol::{self, Container, Failure, FrameError, Joined, Namespace, Process};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::time::TimeVal;

use super::helper::{Job, Report};
use super::record::Record;
use super::rlimits;
use crate::agent::Agent;
use crate::boot::errno;
use crate::container::made::Made;
use crate::container::namespaces::{self, Isolation};
use crate::container::{at, plain, setup, users};
use crate::serve::Channel;
use crate::stdio::{pipes, streams::Streams};
use crate::sys::{self, Child, Spawn};

/// How long a set-up may take. Only an exec can hang: the container may have a file system that does not answer.
const PATIENCE: i64 = 30;
/// How long the host may take to open all streams once it says start.
const STREAMS: Duration = Duration::from_secs(20);

/// Makes a process up to its execve. The record is registered before its end can be noticed.
///
/// # Errors
/// The helper's own failure; the process is gone then and the host never hears of it.
pub fn create(
    agent: &Agent,
    owner: &Arc<Channel>,
    made: &Arc<Made>,
    job: &Job,
) -> Result<Arc<Record>, Failure> {
    rlimits::make_room(process_of(job));
    let (inner, ends) = pipes::make(process_of(job))?;
    let (ours, theirs) = control()?;
    let streams = Streams::new(ends).map_err(plain).map_err(at(|| "prepare the streams".into()))?;
    let stdio = [inner[0].as_fd(), inner[1].as_fd(), inner[2].as_fd()];
    let others = others(agent, job)?;
    let record = agent.registry().add(|id| {
        let spawn = Spawn {
            namespaces: 0,
            cgroup: made.cgroup.descriptor(),
            stdio,
            control: theirs.as_fd(),
            init: None,
        };
        let child = match job {
            Job::Init(container, _) => first(container, &others, &spawn),
            Job::Exec { isolation, .. } => exec(made, isolation, &spawn),
        }
        .map_err(plain)
        .map_err(at(|| "make a process".into()))?;
        let control = ours.try_clone().map_err(at(|| "prepare the helper".into()))?;
        let first = matches!(job, Job::Init(..));
        Ok(Record::new(id, child, owner, (made, first), streams, control))
    })?;
    drop((inner, theirs));
    let ready = prepare(&record, ours, job);
    if let Err(failure) = ready {
        record.announce(false);
        agent.registry().kill(record.id);
        return Err(failure);
    }
    Ok(record)
}

/// The first processes of the containers whose namespaces it joins: of its pid namespace, and of the others, which are one
/// container's.
fn others(agent: &Agent, job: &Job) -> Result<[Option<Arc<Record>>; 2], Failure> {
    let mut others = [None, None];
    if let Job::Init(container, _) = job {
        for Joined { namespace, of } in &container.joined {
            let record = agent.of(*of)?.init().ok_or(Failure::NoSuchProcess)?;
            let slot = &mut others[usize::from(*namespace != Namespace::Pid)];
            if slot.as_ref().is_some_and(|other: &Arc<Record>| other.id != *of) {
                return Err(setup("join namespaces", &"they are those of several containers"));
            }
            *slot = Some(record);
        }
    }
    Ok(others)
}

/// A container's first process.
fn first(
    container: &Container,
    [pid, others]: &[Option<Arc<Record>>; 2],
    spawn: &Spawn<'_>,
) -> Result<Child, Errno> {
    let flags = namespaces::early_flags(&container.namespaces);
    let namespaces = u64::from(flags.bits().unsigned_abs());
    let init = others.as_ref().map(|record| record.pidfd.as_fd());
    let spawn = Spawn { namespaces, init, ..*spawn };
    match pid {
        Some(record) => born_in(&spawn, record.pidfd.as_fd()),
        None => sys::spawn(&spawn),
    }
}

/// One more process of a container.
fn exec(made: &Made, isolation: &Isolation, spawn: &Spawn<'_>) -> Result<Child, Errno> {
    let init = made.init().ok_or(Errno::ESRCH)?;
    let born = |cgroup: BorrowedFd<'_>| {
        let spawn = Spawn { cgroup, init: Some(init.pidfd.as_fd()), ..*spawn };
        if isolation.namespaces.contains(&Namespace::Pid) {
            born_in(&spawn, init.pidfd.as_fd())
        } else {
            sys::spawn(&spawn)
        }
    };
    match born(spawn.cgroup) {
        // It manages cgroups of its own, so none of its processes may be in the one above them (cgroup-v2.rst,
        // "No Internal Process Constraint"): as with runc, the first process's own then.
        Err(Errno::EBUSY) => made
            .cgroup
            .of_process(init.pid)
            .map_err(|error| errno(&error))
            .and_then(|cgroup| born(cgroup.as_fd())),
        born => born,
    }
}

/// Lets a process call execve, once its streams are there.
///
/// # Errors
/// What execve said, or [`Failure::WrongState`] for a second release or missing streams.
pub fn release(record: &Record) -> Result<(), Failure> {
    let mut slot = record.control.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_none() {
        return Err(Failure::WrongState { reason: "the process was started already".into() });
    }
    record.streams.await_all(STREAMS)?;
    let Some(mut control) = slot.take() else {
        return Err(Failure::NoSuchProcess);
    };
    drop(slot);
    // A helper that was killed meanwhile shows by its exit, like a process killed right after its start.
    let _ = control.write_all(&[1]);
    loop {
        match protocol::read::<Report>(&mut control) {
            Ok(Report::Failed(failure)) => return Err(failure),
            // The first process may have hooks to run, which take as long as they are given.
            Err(FrameError::Stream(error))
                if error.kind() == std::io::ErrorKind::WouldBlock && record.first => {}
            Ok(Report::Ready { .. } | Report::NeedsMap) | Err(_) => return Ok(()),
        }
    }
}

fn prepare(record: &Record, mut control: File, job: &Job) -> Result<(), Failure> {
    protocol::write(&mut control, job).map_err(at(|| "start the helper".into()))?;
    let mut report = protocol::read::<Report>(&mut control);
    if let (Ok(Report::NeedsMap), Job::Init(container, _)) = (&report, job) {
        users::write_maps(record.pid, &container.user_map)?;
        control.write_all(&[1]).map_err(at(|| "start the helper".into()))?;
        report = protocol::read::<Report>(&mut control);
    }
    let terminal = match report {
        Ok(Report::Ready { terminal }) => terminal,
        Ok(Report::NeedsMap) => return Err(setup("prepare the process", &"it asks for what it has")),
        Ok(Report::Failed(failure)) => return Err(failure),
        Err(FrameError::Stream(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(setup("prepare the process", &"it took too long"));
        }
        Err(error) => return Err(setup("prepare the process", &error)),
    };
    if let Some(number) = terminal {
        let master = sys::pidfd_getfd(record.pidfd.as_fd(), number)
            .map_err(plain)
            .map_err(at(|| "fetch the terminal".into()))?;
        record.streams.set_terminal(master).map_err(at(|| "keep the terminal".into()))?;
    }
    Ok(())
}

/// Spawns in the pid namespace of the process `init`. Only this thread's children are meant, and only for one clone.
fn born_in(spawn: &Spawn<'_>, init: BorrowedFd<'_>) -> Result<Child, Errno> {
    let own = sys::pidfd_open(i32::try_from(std::process::id()).map_err(|_| Errno::ESRCH)?)?;
    setns(init, CloneFlags::CLONE_NEWPID)?;
    let child = sys::spawn(spawn);
    // Can't fail: it is this process's own.
    if let Err(errno) = setns(&own, CloneFlags::CLONE_NEWPID) {
        crate::log::failure("return to the first pid namespace", &errno);
    }
    child
}

fn control() -> Result<(File, File), Failure> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(plain)
        .map_err(at(|| "prepare the helper".into()))?;
    setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))
        .map_err(plain)
        .map_err(at(|| "prepare the helper".into()))?;
    Ok((File::from(ours), File::from(theirs)))
}

fn process_of(job: &Job) -> &Process {
    match job {
        Job::Init(container, _) => &container.init,
        Job::Exec { process, .. } => process,
    }
}
