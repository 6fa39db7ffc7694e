//! The helper: what runs between clone and the container's own program.
//!
//! In: one [`Job`] on the control socket. Out: one [`Report`] when everything but the execve is done, and, after the
//! agent's release, either the socket's end (execve was called) or a second report saying why not.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use msb_agent::protocol::{self, Container, Failure, Namespace, Process, StartHooks};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::{hooks, lookup, setup};
use crate::container::beneath::Beneath;
use crate::container::{at, devices, mounts, namespaces, paths, plain, root};
use crate::stdio::terminal;
use crate::sys;

/// What a helper is to become.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// The container's first process; makes everything the container sees.
    Init(Box<Container>),
    /// One more; joins what is there.
    Exec {
        /// What to run.
        process: Box<Process>,
        /// What the container has of its own.
        namespaces: Vec<Namespace>,
    },
}

/// How far a helper got.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Waits for its release.
    Ready {
        /// The number, in the helper, of the terminal's agent side.
        terminal: Option<RawFd>,
    },
    /// Ends now.
    Failed(Failure),
}

/// Status of a helper that could not become its process.
const FAILED: i32 = 127;

/// Does the job on descriptor 3. Returns the status to exit with: a success does not return.
pub fn run() -> i32 {
    let mut control = sys::control_descriptor();
    // Nobody in the container may look into a process that still has the agent's descriptors.
    let _ = prctl::set_dumpable(false);
    let failure = match become_process(&mut control) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // If the agent is gone, so is the guest.
    let _ = protocol::write(&mut control, &Report::Failed(failure));
    FAILED
}

fn become_process(control: &mut File) -> Result<std::convert::Infallible, Failure> {
    let job: Job = protocol::read(control).map_err(at(|| "read the job".into()))?;
    sys::reset_signals().map_err(plain).map_err(at(|| "reset the signals".into()))?;
    umask(Mode::empty());
    let mut start_hooks = StartHooks::default();
    let (process, terminal) = match job {
        Job::Init(mut container) => {
            start_hooks = std::mem::take(&mut container.start_hooks);
            make(*container)?
        }
        Job::Exec { process, namespaces } => join(*process, &namespaces)?,
    };
    let ready = setup::prepare(process)?;
    sys::close_above_stderr_on_exec().map_err(plain).map_err(at(|| "close descriptors".into()))?;
    let number = terminal.as_ref().map(AsRawFd::as_raw_fd);
    protocol::write(control, &Report::Ready { terminal: number }).map_err(at(|| "report".into()))?;
    match control.read(&mut [0]) {
        Ok(1) => {}
        Ok(_) | Err(_) => return Err(crate::container::setup("wait for the start", &"the agent is gone")),
    }
    hooks::run(&start_hooks)?;
    Err(lookup::execute(&ready))
}

/// The first process: root, mounts, devices; everything is resolved before the new root is entered.
fn make(container: Container) -> Result<(Process, Option<std::os::fd::OwnedFd>), Failure> {
    if container.namespaces.contains(&Namespace::Cgroup) {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .map_err(plain)
            .map_err(at(|| "make a cgroup namespace".into()))?;
    }
    sys::die_of_signals().map_err(plain).map_err(at(|| "handle signals".into()))?;
    adjust_oom(&container.init)?;
    namespaces::detach_propagation()?;
    namespaces::name(&container)?;
    let root = Beneath::new(root::JOINED).map_err(plain).map_err(at(|| "open the root".into()))?;
    let late = mounts::mount_all(&root, &container.mounts)?;
    devices::make_all(&root, &container.devices)?;
    let terminal = match container.init.terminal {
        Some(size) => {
            let pair = terminal::open(&root, size)?;
            devices::bind_console(&root, &pair.process)?;
            Some(terminal::take(pair, container.init.user.uid)?)
        }
        None => None,
    };
    setup::make_cwd(&root, &container.init.cwd)?;
    paths::mask(&root, &container.masked_paths)?;
    paths::protect(&root, &container.readonly_paths)?;
    mounts::close(&late)?;
    if container.root.readonly {
        mounts::make_read_only(root.root())
            .map_err(plain)
            .map_err(at(|| "make the root file system read-only".into()))?;
    }
    namespaces::enter(&root)?;
    Ok((container.init, terminal))
}

/// One more process: born in the container's cgroup and pid namespace, it joins the rest here.
fn join(
    process: Process,
    namespaces: &[Namespace],
) -> Result<(Process, Option<std::os::fd::OwnedFd>), Failure> {
    adjust_oom(&process)?;
    let init = sys::init_descriptor();
    // Birth did the pid namespace; joining it here would only be for children.
    let flags = namespaces::flags(namespaces) - CloneFlags::CLONE_NEWPID;
    setns(&init, flags).map_err(plain).map_err(at(|| "join the container".into()))?;
    drop(init);
    let terminal = match process.terminal {
        Some(size) => {
            let root = Beneath::new("/").map_err(plain).map_err(at(|| "open the root".into()))?;
            Some(terminal::take(terminal::open(&root, size)?, process.user.uid)?)
        }
        None => None,
    };
    Ok((process, terminal))
}

/// Through the agent's `/proc`, before the container's mounts are seen.
fn adjust_oom(process: &Process) -> Result<(), Failure> {
    let Some(value) = process.oom_score_adj else { return Ok(()) };
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(value.to_string().as_bytes()))
        .map_err(at(|| format!("set oom_score_adj to {value}")))
}
