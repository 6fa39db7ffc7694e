//! `Create` and `Start`: a container and its first process.

use std::sync::{Arc, Mutex};
use std::thread;

use msb_agent::protocol::{Container, Failure, MountSource, Reply, RootSource};

use super::{Answer, Channel};
use crate::agent::Agent;
use crate::boot::private_directory;
use crate::clock::{self, Keeper};
use crate::container::cgroup::idle::{self, Idle};
use crate::container::cgroup::{Cgroup, filter, limits, oom};
use crate::container::made::{self, Made, Undo};
use crate::container::namespaces::Isolation;
use crate::container::place::Place;
use crate::container::users::Owners;
use crate::container::{at, plain, root, volumes};
use crate::log;
use crate::process::helper::Job;
use crate::process::spawn;

/// Stack of the thread that watches a container's memory.
const WATCH_STACK: usize = 48 << 10;

/// Root, cgroup and first process, up to its execve.
pub fn create(
    agent: &Arc<Agent>,
    channel: &Arc<Channel>,
    speaks_of: &mut Option<Arc<Made>>,
    mut container: Box<Container>,
) -> Answer {
    if speaks_of.is_some() {
        return Err(Failure::WrongState { reason: "this channel has its container already".into() });
    }
    let place = agent.claim()?;
    let first = place == Place::first();
    let _order = (!first).then(|| agent.further());
    let mut undo = Undo { place, devices: Vec::new(), kept: false };
    let made = Arc::new(build(&mut undo, channel, &mut container)?);
    agent.add(&made);
    watch_memory(&made);
    let record = match spawn::create(agent, channel, &made, &Job::Init(container, undo.place.clone())) {
        Ok(record) => record,
        Err(failure) => {
            made.cgroup.kill();
            // A guest whose first container failed ends, and that container's disks with it.
            if !first {
                agent.forget(&made);
                made.root.close();
            }
            return Err(failure);
        }
    };
    undo.kept = true;
    made.set_init(Some(&record));
    *speaks_of = Some(made);
    Ok((Reply::Created { process: record.id, pid: record.pid.cast_unsigned() }, Some(record)))
}

/// All of it but its first process.
fn build(undo: &mut Undo, channel: &Arc<Channel>, container: &mut Container) -> Result<Made, Failure> {
    for directory in undo.place.directories() {
        private_directory(directory).map_err(plain).map_err(at(|| format!("make {directory}")))?;
    }
    take_disks(container, &mut undo.devices)?;
    let place = &undo.place;
    volumes::mount_shared(&container.mounts)?;
    volumes::mount_share_for(&container.mounts)?;
    let disks = volumes::mount_disks(place, &container.mounts)?;
    let root = root::mount_root(place, &container.root.source, disks)?;
    let cgroup = Cgroup::create(place)?;
    limits::apply(cgroup.files(), &container.limits)?;
    filter::attach(cgroup.descriptor(), &container.device_rules)?;
    cgroup.give(Owners(&container.user_map))?;
    let oom = Arc::new(oom::Watch::new(channel, cgroup.files()));
    let (isolation, asked) = (Isolation::of(container), container.init.clone());
    // Only an exec has one.
    container.init.cpu_affinity = None;
    let (place, devices) = (place.clone(), undo.devices.clone());
    Ok(Made { place, devices, root, cgroup, isolation, oom, asked, init: Mutex::new(None) })
}

/// Drivers for the disks that were put into the machine for it.
fn take_disks(container: &mut Container, taken: &mut Vec<String>) -> Result<(), Failure> {
    if let RootSource::Disks { layers, scratch } = &mut container.root.source {
        layers.iter_mut().try_for_each(|layer| made::take(&mut layer.device, taken))?;
        made::take(scratch, taken)?;
    }
    container.mounts.iter_mut().try_for_each(|mount| match &mut mount.source {
        MountSource::Disk { device, .. } => made::take(device, taken),
        _ => Ok(()),
    })
}

/// On a thread of its own. Without it, kills are told when the first process ends. The thread of the guest's first container
/// sees to the guest as well.
fn watch_memory(made: &Made) {
    let (oom, first) = (Arc::clone(&made.oom), made.is_first());
    let watch = move || {
        let (mut idle, keeper) = (Idle::default(), Keeper::new());
        let keep = || {
            if let Err(error) = keeper.keep() {
                log::failure("keep the clock", &error);
            }
        };
        if first && !clock::is_set() {
            keep();
        }
        oom.run(idle::INTERVAL, || {
            if first {
                idle.look();
                keep();
            }
        });
    };
    if let Err(error) = thread::Builder::new().stack_size(WATCH_STACK).spawn(watch) {
        log::failure("watch the container's memory", &error);
    }
}

/// Lets the first process go.
pub fn start(made: &Made) -> Result<Reply, Failure> {
    let record = made.init().ok_or(Failure::NoSuchProcess)?;
    spawn::release(&record).map(|()| Reply::Done)
}
