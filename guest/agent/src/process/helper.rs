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

use super::{hooks, lookup, rlimits, setup};
use crate::container::beneath::Beneath;
use crate::container::namespaces::Isolation;
use crate::container::place::Place;
use crate::container::users::{self, Owners};
use crate::container::{at, devices, mounts, namespaces, paths, plain};
use crate::stdio::terminal;
use crate::sys;

/// What a helper is to become.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// The first process of the container at that place; makes everything the container sees.
    Init(Box<Container>, Place),
    /// One more; joins what is there.
    Exec {
        /// What to run.
        process: Box<Process>,
        /// What the container has of its own.
        isolation: Isolation,
    },
}

/// How far a helper got.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It has made its user namespace, and waits for the maps and a byte.
    NeedsMap,
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
        Job::Init(mut container, place) => {
            start_hooks = std::mem::take(&mut container.start_hooks);
            make(*container, &place, control)?
        }
        Job::Exec { process, isolation } => join(*process, &isolation)?,
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
fn make(
    container: Container,
    place: &Place,
    control: &mut File,
) -> Result<(Process, Option<std::os::fd::OwnedFd>), Failure> {
    let owners = Owners(&container.user_map);
    if container.namespaces.contains(&Namespace::Cgroup) {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .map_err(plain)
            .map_err(at(|| "make a cgroup namespace".into()))?;
    }
    sys::die_of_signals().map_err(plain).map_err(at(|| "handle signals".into()))?;
    adjust_oom(&container.init)?;
    join_others(&container)?;
    namespaces::detach_propagation()?;
    namespaces::name(&container)?;
    if container.namespaces.contains(&Namespace::Time) {
        namespaces::move_clocks(&container.time_offsets)?;
    }
    let root = Beneath::new(&place.root()).map_err(plain).map_err(at(|| "open the root".into()))?;
    let root = root.owned_by(owners.uid(0)?, owners.gid(0)?);
    let late = mounts::mount_all((&root, place), &container.mounts, owners)?;
    devices::make_all(&root, &container.devices, container.all_devices, owners)?;
    let uid = owners.uid(container.init.user.uid)?;
    let terminal = match container.init.terminal {
        Some(size) => {
            let pair = terminal::open(&root, size)?;
            devices::bind_console(&root, &pair.process)?;
            Some(terminal::take(pair, uid)?)
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
    if container.namespaces.contains(&Namespace::User) {
        // What only the machine's root may do for the process is done before it is left.
        rlimits::set(&container.init)?;
        users::own_pipes(uid);
        users::enter(&container.namespaces, control)?;
    }
    if let Some(word) = &container.propagation {
        namespaces::propagate(word)?;
    }
    namespaces::set_personality(container.personality)?;
    Ok((container.init, terminal))
}

/// The namespaces that are another container's. Birth did the pid namespace.
fn join_others(container: &Container) -> Result<(), Failure> {
    let kinds: Vec<Namespace> = container.joined.iter().map(|joined| joined.namespace).collect();
    let flags = namespaces::flags(&kinds) - CloneFlags::CLONE_NEWNS - CloneFlags::CLONE_NEWPID;
    if flags.is_empty() {
        return Ok(());
    }
    setns(sys::init_descriptor(), flags).map_err(plain).map_err(at(|| "join the pod's namespaces".into()))
}

/// One more process: born in the container's cgroup and pid namespace, it joins the rest here.
fn join(process: Process, isolation: &Isolation) -> Result<(Process, Option<std::os::fd::OwnedFd>), Failure> {
    adjust_oom(&process)?;
    let init = sys::init_descriptor();
    let owners = Owners(&isolation.user_map);
    let uid = owners.uid(process.user.uid)?;
    // Birth did the pid namespace; joining it here would only be for children. The users come last, as at create.
    let flags =
        namespaces::flags(&isolation.namespaces) - CloneFlags::CLONE_NEWPID - CloneFlags::CLONE_NEWUSER;
    setns(&init, flags).map_err(plain).map_err(at(|| "join the container".into()))?;
    let terminal = match process.terminal {
        Some(size) => {
            let root = Beneath::new("/").map_err(plain).map_err(at(|| "open the root".into()))?;
            Some(terminal::take(terminal::open(&root, size)?, uid)?)
        }
        None => None,
    };
    if isolation.namespaces.contains(&Namespace::User) {
        rlimits::set(&process)?;
        users::own_pipes(uid);
        setns(&init, CloneFlags::CLONE_NEWUSER)
            .and_then(|()| users::become_root())
            .map_err(plain)
            .map_err(at(|| "join the user namespace".into()))?;
    }
    namespaces::set_personality(isolation.personality)?;
    Ok((process, terminal))
}

/// Through the agent's `/proc`, before the container's mounts are seen.
fn adjust_oom(process: &Process) -> Result<(), Failure> {
    let Some(value) = process.oom_score_adj.or(process.inherited_oom_score_adj) else { return Ok(()) };
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(value.to_string().as_bytes()))
        .map_err(at(|| format!("set oom_score_adj to {value}")))
}
