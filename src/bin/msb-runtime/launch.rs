//! A container is made: everything up to, but without, its first process's start. `create` ends here, `run` goes on.
//!
//! Each step is undone when a later one fails, in the reverse order: the VMM is killed and waited for, its disks and
//! its cgroup are removed, then the id is free again.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use msb_agent::protocol::{self as agent, Namespace};
use msb_runtime::{
    bundle::Spec,
    config::{Assets, Config},
    host::{fds, hooks, inherited, pidfd, shm},
    image,
    sandbox::{
        SandboxConfig,
        child::{Released, Starting, Word},
    },
    state::{Entry, Id, Process, Record, Stage, Status, VERSION},
};
use nix::unistd::{gethostname, getuid};

use crate::{
    clock, console,
    context::Context,
    lent::{Guard, Lent},
    settings, show,
};

/// What `create` and `run` are given.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bundle's directory; the current one otherwise.
    #[arg(short, long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Unix socket that is sent the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// File that the VMM's pid is written to.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted: the root is never pivoted to on the host.
    #[arg(long)]
    no_pivot: bool,
    /// Accepted: the guest's kernel has keyrings of its own.
    #[arg(long)]
    no_new_keyring: bool,
    /// Unix socket that is sent a descriptor of the VMM's process.
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Only 0: descriptors can't be handed into a machine.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = no_descriptors)]
    preserve_fds: u32,
    /// The new container's id.
    pub id: String,
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Launched {
    /// Its directory, locked.
    pub entry: Entry,
    /// What is known of it.
    pub record: Record,
    /// Its VMM.
    pub vmm: Released,
    /// Its terminal, where this command serves it.
    pub master: Option<OwnedFd>,
}

/// Makes it.
pub fn launch(options: &Options, detached: bool, context: &Context) -> anyhow::Result<Launched> {
    // Before anything of our own is opened: what the caller leaked to us must not live as long as the VMM.
    fds::forget_inherited()
        .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
    no_sockets()?;
    let id: Id = options.id.parse()?;
    let bundle = absolute(options.bundle.as_deref())?;
    let spec = Spec::load(&bundle)?;
    let console = console::prepare(spec.process().terminal(), detached, options.console_socket.as_deref())?;

    let reservation = context.store.reserve(&id)?;
    let entry = reservation.entry();
    let settings = settings::load()?;
    let Config { size, disk, kernel_args, host, plan } = Config::new(&spec, &settings, console.stdin)?;
    let lent = Lent::new(entry, &host, spec.root(), plan.has_start_hooks(), context.systemd_cgroup)?;
    lent.save(entry)?;
    lent.rescue()?;
    let guard = Guard::new(lent.clone());
    let disks = disk.map(|size| image::prepare(&lent.disks, spec.root(), size.0)).transpose()?;
    let (mut container, binds, images) = plan.complete(disks.as_ref(), shm::size);
    container.start_hooks.state = show::for_start_hooks(&spec, &id, &bundle);
    if container.hostname.is_none() && !container.namespaces.contains(&Namespace::Uts) {
        // Who shares the host's names sees at least this one.
        container.hostname = gethostname()?.into_string().ok();
    }
    inherit(&mut container.init);
    let cgroup = lent.cgroup()?;

    let dir = entry.directory().to_owned();
    let assets = Assets::of(&settings, |name| std::env::var_os(name));
    let shared_root = disks.is_none().then(|| spec.root().to_owned());
    let disks = disks.map(|disks| disks.disks()).unwrap_or_default();
    let machine = assets.machine(size, kernel_args, disks, &dir);
    let (cgroup_place, log) = (lent.place(), context.report.log());
    let sandbox = SandboxConfig {
        dir,
        machine,
        cgroup: cgroup_place,
        log,
        network: host.network,
        container,
        shared_root,
        binds,
        images,
        virtiofsd: settings.virtiofsd.clone(),
    };
    let mut vmm = Starting::spawn("vmm", &sandbox, console.stdio)?;
    vmm.expect(&Word::Ready)?;
    if let Some(cgroup) = &cgroup {
        cgroup.enter(vmm.pid(), &host.cgroup.limits)?;
    }

    let mut record = record(&spec, id, bundle, vmm.pid(), context)?;
    entry.set_record(&record)?;
    if let Err(error) = boot(options, &mut record, &lent, entry, &mut vmm, context) {
        // It was there as far as hooks know, and is not any more.
        drop(vmm);
        drop(guard);
        let state = show::for_hooks(&record, Status::Stopped);
        context.report.warnings(hooks::run_all(&lent.hooks.poststop, &state, &record.bundle));
        return Err(error);
    }
    guard.keep();
    Ok(Launched { entry: reservation.keep(), record, vmm: vmm.release(), master: console.master })
}

/// The bundle as later commands, with other working directories, will find it.
fn absolute(bundle: Option<&Path>) -> anyhow::Result<PathBuf> {
    let bundle = bundle.unwrap_or_else(|| Path::new("."));
    fs::canonicalize(bundle).with_context(|| {
        format!("The bundle {} can't be opened: give its directory with --bundle", bundle.display())
    })
}

fn record(spec: &Spec, id: Id, bundle: PathBuf, pid: u32, context: &Context) -> anyhow::Result<Record> {
    let vmm = Process::of(i32::try_from(pid)?).context("The VMM process ended before it was ready")?;
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
    })
}

/// What a process has of its caller, here and with runc, where its configuration says nothing.
pub fn inherit(process: &mut agent::Process) {
    let limits = inherited::limits().into_iter();
    process.inherited_rlimits = limits
        .map(|limit| agent::Rlimit { kind: limit.name.into(), soft: limit.soft, hard: limit.hard })
        .collect();
    process.inherited_oom_score_adj = inherited::oom_score_adj();
}

/// From the hooks of create to the container that waits.
fn boot(
    options: &Options,
    record: &mut Record,
    lent: &Lent,
    entry: &Entry,
    vmm: &mut Starting,
    context: &Context,
) -> anyhow::Result<()> {
    let state = show::for_hooks(record, Status::Creating);
    // The network's are among the first: they find the new namespace through the VMM's pid.
    hooks::run(&lent.hooks.prestart, &state, &record.bundle)?;
    hooks::run(&lent.hooks.create_runtime, &state, &record.bundle)?;
    hooks::run_beside(vmm.pid(), &lent.hooks.create_container, &state, &record.bundle)?;
    vmm.go()?;
    let moments = vmm.created()?;
    context.report.moments(&moments);

    if let Some(path) = &options.pidfd_socket {
        pidfd::send(vmm.pid(), "standard", path)?;
    }
    if let Some(path) = &options.pid_file {
        write_pid(path, vmm.pid())?;
    }
    record.stage = Stage::Created;
    Ok(entry.set_record(record)?)
}

/// `--preserve-fds`
pub fn no_descriptors(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        Ok(_) => {
            Err("open files of the host can't be handed into a machine; leave it out, and have the program \
                      open what it needs, or listen, inside"
                .into())
        }
        Err(_) => Err("it is a number".into()),
    }
}

/// Sockets that systemd hands to a service (sd_listen_fds(3)): runc passes them on, which here can't be done.
fn no_sockets() -> anyhow::Result<()> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") == Some(std::process::id()) && number("LISTEN_FDS").is_some_and(|count| count > 0)
    {
        bail!(
            "LISTEN_FDS is set: sockets of the host can't be handed into a machine. Unset it, and have the \
             program listen inside"
        );
    }
    Ok(())
}

/// Whole or not at all: whoever waits for the file reads it at once.
pub fn write_pid(path: &Path, pid: u32) -> anyhow::Result<()> {
    let mut name = path.file_name().context("--pid-file names no file")?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("The pid can't be written to {}", path.display()))
}
