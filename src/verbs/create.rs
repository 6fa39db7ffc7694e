//! Create: everything up to, but without, a container's first process's start.
//!
//! A further container of a pod gets no machine but a place in the pod's, and another process that stands for it.
//!
//! Each step is undone when a later one fails, in the reverse order: the VMM is killed and waited for, its disks and
//! its cgroup are removed, then the id is free again.

use std::{path::PathBuf, process::Stdio, time::Duration};

use msb_agent::protocol::{self as agent, Namespace};
use nix::unistd::{gethostname, getuid};

use super::{Announce, Context, Lent, VerbError, clock, hook_state, lent::Guard, pod, settings};
use crate::{
    bundle::Spec,
    config::{Assets, Config, Confinement, Role, SPARE_DISKS},
    host::{hooks, inherited, shm},
    image::{self, RootImage},
    sandbox::{
        SandboxConfig,
        child::{Released, Starting, Word},
        member::MemberConfig,
    },
    state::{Entry, Id, Pod, Process, Record, Stage, Status, VERSION},
};

/// A container to be made.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: Id,
    /// Its bundle, as later callers with other working directories will find it.
    pub bundle: PathBuf,
    /// What the bundle says.
    pub spec: Spec,
    /// The root, where it is an image that is not mounted; it can't be shared live then.
    pub image: Option<RootImage>,
    /// The first process's three descriptors.
    pub stdio: [Stdio; 3],
    /// Whether there is anything to read from the first.
    pub stdin: bool,
    /// How long what it wrote may still be read after its end; none: as long as its reader is there.
    pub drain: Option<Duration>,
    /// Who is told of the VMM's process.
    pub announce: Announce,
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Created {
    /// Its directory, locked.
    pub entry: Entry,
    /// What is known of it.
    pub record: Record,
    /// Who stands for it: its VMM, or in a pod another process.
    pub process: Released,
    /// What the settings say that holds a VMM back; a pod's has what they said when it was made.
    pub confinement: Confinement,
}

/// That nothing does, or not all that should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Relaxed(&'static str);

/// Makes it. What the caller has leaked to this process must be marked to be closed before ([`crate::host::fds`]): the VMM
/// would hold it for the life of the container.
///
/// # Errors
/// Of every part, [`VerbError`]; then nothing is left.
pub fn create(request: Request, context: &Context) -> Result<Created, VerbError> {
    let Request { id, bundle, spec, image, stdio, stdin, drain, announce } = request;
    let reservation = context.store.reserve(&id)?;
    let entry = reservation.entry();
    let settings = context.settings.as_deref().map_or_else(settings::load, settings::load_from)?;
    let config = Config::new(&spec, &settings, stdin, |network| pod::sharing(&context.store, network))?;
    let pod = match &config.role {
        Role::Alone | Role::Sandbox => None,
        Role::Member(sandbox) => Some(pod::sandbox(&context.store, sandbox)?),
    };
    let Config { role, joined, size, disk, throttles, kernel_args, host, plan } = config;
    let lent = Lent::new(entry, &host, spec.root(), plan.has_start_hooks(), context.systemd_cgroup)?;
    let lent = if image.is_some() { lent.on_image() } else { lent };
    let lent = lent.in_pod(pod.as_ref().map(|pod| pod.directory.clone()), &id);
    lent.save(entry)?;
    context.warn_all(lent.rescue()?);
    let guard = Guard::new(lent.clone());
    if image.is_some() && disk.is_none() {
        return Err(VerbError::SharedImage);
    }
    let disks =
        disk.map(|size| image::prepare(&lent.disks, spec.root(), image.as_ref(), size.0)).transpose()?;
    let (mut container, binds, images) = plan.complete(disks.as_ref(), shm::size);
    container.start_hooks.state = hook_state::of_start(&spec, &id, &bundle);
    if pod.is_none() && container.hostname.is_none() && !container.namespaces.contains(&Namespace::Uts) {
        // Who shares the host's names sees at least this one.
        container.hostname = gethostname().map_err(VerbError::Hostname)?.into_string().ok();
    }
    inherit(&mut container.init);
    let cgroup = lent.cgroup()?;

    let dir = entry.directory().to_owned();
    let shared_root = disks.is_none().then(|| spec.root().to_owned());
    let disks = disks.map(|disks| disks.disks()).unwrap_or_default();
    let mut process = if let Some(pod) = &pod {
        container.joined = pod.joined(&context.store, &joined)?;
        let member = MemberConfig {
            dir,
            sandbox: pod.directory.clone(),
            id: id.to_string(),
            cgroup: lent.place(),
            log: context.tell.log(),
            network: pod.network(&host.network)?,
            container,
            disks,
            binds,
            images,
            drain,
        };
        Starting::spawn("member", &member, stdio)?
    } else {
        let assets = Assets::of(&settings, |name| std::env::var_os(name));
        let mut machine = assets.machine(size, kernel_args, disks, &dir);
        machine.throttles = throttles;
        machine.spare_disks = if role.is_in_pod() { SPARE_DISKS } else { 0 };
        let sandbox = SandboxConfig {
            dir,
            machine,
            cgroup: lent.place(),
            log: context.tell.log(),
            network: host.network,
            reach: host.reach,
            container,
            shared_root,
            binds,
            images,
            virtiofsd: settings.virtiofsd.clone(),
            drain,
            pod: role.is_in_pod(),
            confinement: settings.machine.confinement,
        };
        Starting::spawn("vmm", &sandbox, stdio)?
    };
    process.expect(&Word::Ready)?;
    if let Some(cgroup) = &cgroup {
        cgroup.enter(process.pid(), &host.cgroup.limits)?;
    }

    let mut record = record(&spec, id, bundle, process.pid(), context)?;
    record.takes_in = role == Role::Sandbox;
    entry.set_record(&record)?;
    let pod = pod.map(|pod| pod.id);
    if let Err(error) = boot(&announce, &mut record, pod, &lent, entry, &mut process, context) {
        // It was there as far as hooks know, and is not any more.
        drop(process);
        drop(guard);
        let state = hook_state::of(&record, Status::Stopped);
        context.warn_all(hooks::run_all(&lent.hooks.poststop, &state, &record.bundle));
        return Err(error);
    }
    guard.keep();
    let confinement = settings.machine.confinement;
    context.warn_all(confinement.warning().map(Relaxed));
    Ok(Created { entry: reservation.keep(), record, process: process.release(), confinement })
}

fn record(spec: &Spec, id: Id, bundle: PathBuf, pid: u32, context: &Context) -> Result<Record, VerbError> {
    let vmm = i32::try_from(pid).ok().and_then(Process::of).ok_or(VerbError::EndedEarly)?;
    Ok(Record {
        version: VERSION,
        oci_version: spec.version().to_owned(),
        id,
        bundle,
        rootfs: spec.root().to_owned(),
        vmm,
        stage: Stage::Creating,
        created: clock::now(),
        annotations: spec.annotations(),
        systemd_cgroup: context.systemd_cgroup,
        terminal: spec.process().terminal(),
        owner: getuid().as_raw(),
        pod: None,
        takes_in: false,
    })
}

/// What a process has of its caller, here and with runc, where its configuration says nothing.
pub(super) fn inherit(process: &mut agent::Process) {
    let limits = inherited::limits().into_iter();
    process.inherited_rlimits = limits
        .map(|limit| agent::Rlimit { kind: limit.name.into(), soft: limit.soft, hard: limit.hard })
        .collect();
    process.inherited_oom_score_adj = inherited::oom_score_adj();
}

/// From the hooks of create to the container that waits.
fn boot(
    announce: &Announce,
    record: &mut Record,
    pod: Option<Id>,
    lent: &Lent,
    entry: &Entry,
    process: &mut Starting,
    context: &Context,
) -> Result<(), VerbError> {
    let state = hook_state::of(record, Status::Creating);
    // The network's are among the first: they find the new namespace through the VMM's pid.
    hooks::run(&lent.hooks.prestart, &state, &record.bundle)?;
    hooks::run(&lent.hooks.create_runtime, &state, &record.bundle)?;
    hooks::run_beside(process.pid(), &lent.hooks.create_container, &state, &record.bundle)?;
    process.go()?;
    if let Some(sandbox) = pod {
        record.pod = Some(Pod { sandbox, process: process.member()?.0 });
    } else {
        context.tell.moments(&process.created()?);
    }
    announce.announce(process.pid(), "standard")?;
    record.stage = Stage::Created;
    Ok(entry.set_record(record)?)
}
