//! `Create` and `Start`: the container and its first process.

use std::sync::Arc;
use std::thread;

use msb_agent::protocol::{Container, Failure, ProcessId, Reply};

use super::{Answer, Channel};
use crate::agent::{Agent, Made};
use crate::clock::Keeper;
use crate::container::cgroup::idle::{self, Idle};
use crate::container::cgroup::{Cgroup, filter, limits, oom};
use crate::container::namespaces::Isolation;
use crate::container::root;
use crate::container::users::Owners;
use crate::container::volumes;
use crate::log;
use crate::process::helper::Job;
use crate::process::spawn;

/// Stack of the thread that watches the container's memory.
const WATCH_STACK: usize = 48 << 10;

/// Root, cgroup and first process, up to its execve.
pub fn create(agent: &Arc<Agent>, channel: &Arc<Channel>, mut container: Box<Container>) -> Answer {
    agent.registry().claim()?;
    let mounted = root::mount_root(&container.root.source)?.with(volumes::mount_disks(&container.mounts)?);
    let cgroup = Cgroup::create()?;
    limits::apply(&container.limits)?;
    filter::attach(cgroup.descriptor(), &container.device_rules)?;
    cgroup.give(Owners(&container.user_map))?;
    let watch = oom::Watch::new(channel);
    let (isolation, asked) = (Isolation::of(&container), container.init.clone());
    // Only an exec has one.
    container.init.cpu_affinity = None;
    agent.set_container(Made::new(mounted, cgroup, isolation, watch, asked));
    watch_memory(agent);
    let record = spawn::create(agent, channel, &Job::Init(container))?;
    agent.container()?.set_init(&record);
    Ok((Reply::Created { process: record.id, pid: record.pid.cast_unsigned() }, Some(record)))
}

/// On a thread of its own. Without it, kills are told when the first process ends.
fn watch_memory(agent: &Arc<Agent>) {
    let agent = Arc::clone(agent);
    let watch = move || {
        if let Ok(made) = agent.container() {
            let (mut idle, keeper) = (Idle::default(), Keeper::new());
            made.oom.run(idle::INTERVAL, || {
                idle.look();
                if let Err(errno) = keeper.keep() {
                    log::failure("keep the clock", &errno);
                }
            });
        }
    };
    if let Err(error) = thread::Builder::new().stack_size(WATCH_STACK).spawn(watch) {
        log::failure("watch the container's memory", &error);
    }
}

/// Lets the first process go.
pub fn start(agent: &Agent) -> Result<Reply, Failure> {
    agent.container()?;
    let record = Arc::clone(agent.registry().alive(ProcessId::INIT)?);
    spawn::release(&record).map(|()| Reply::Done)
}
