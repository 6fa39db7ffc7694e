//! `exec ID COMMAND…`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use msb_runtime::{
    bundle::{Process, Spec},
    host::fds,
    process::attach::DRAIN,
    sandbox::child::{Starting, Word},
    state::{Id, Record},
    verbs::{Announce, Context, Lent, exec, pod},
};
use oci_spec::runtime as oci;

use crate::{attach::Order, console, foreground, launch};

/// Run one more process in a container.
#[derive(Debug, Args)]
pub struct Exec {
    /// Unix socket that is sent the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Adds NAME=value to the environment.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// With a terminal.
    #[arg(short, long)]
    tty: bool,
    /// UID, or UID:GID.
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Adds a group.
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A file with the whole process, as in a config.json.
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Leave it running and return.
    #[arg(short, long)]
    detach: bool,
    /// File that the pid is written to.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Sets no_new_privs.
    #[arg(long)]
    no_new_privs: bool,
    /// Adds a capability.
    #[arg(short, long, value_name = "CAP_NAME")]
    cap: Vec<String>,
    /// Unix socket that is sent a descriptor of the process that stands for the new one.
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// SELinux label of the process.
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process.
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Only the container's own (/): its groups beneath are the guest's.
    #[arg(long, value_name = "[CONTROLLER:]PATH", value_parser = own_cgroup)]
    cgroup: Vec<()>,
    /// Only 0: descriptors can't be handed into a machine.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = launch::no_descriptors)]
    preserve_fds: u32,
    /// Also in a paused container, where it waits until that is resumed.
    #[arg(long)]
    ignore_paused: bool,
    /// Which container.
    id: String,
    /// What to run, if no --process is given.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

/// `--cgroup`
fn own_cgroup(text: &str) -> Result<(), String> {
    match text.rsplit_once(':').map_or(text, |(_, path)| path) {
        "/" | "" => Ok(()),
        _ => Err(
            "a group beneath the container's own can't be entered from the host: leave it out, and have the \
                  command write its pid to the group's cgroup.procs"
                .into(),
        ),
    }
}

impl Exec {
    /// Runs it.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        fds::forget_inherited()
            .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
        let id: Id = self.id.parse()?;
        let entry = context.store.look(&id)?;
        let record = exec::ready(&entry, self.ignore_paused)?;
        let process = self.process(&record)?;
        let console = console::prepare(process.terminal(), self.detach, self.console_socket.as_deref())?;
        let process = exec::prepare(&entry, &process, console.stdin)?;
        let guest = pod::guest(&entry, &record);
        let dir = guest.control.directory().to_owned();
        let drain = self.detach.then_some(DRAIN);
        let order = Order { dir, container: guest.container, process, drain };
        let mut child = Starting::spawn("attach", &order, console.stdio)?;
        child.created()?;
        if let Some(cgroup) = Lent::load(&entry)?.map(|lent| lent.cgroup()).transpose()?.flatten() {
            cgroup.add(child.pid())?;
        }
        let announce = Announce { pid_file: self.pid_file.clone(), pidfd_socket: self.pidfd_socket.clone() };
        announce.announce(child.pid(), "setns")?;
        child.go()?;
        child.expect(&Word::Running)?;
        let child = child.release();
        if self.detach { Ok(ExitCode::SUCCESS) } else { foreground::stay(child, console.master) }
    }

    /// From the file; or the container's own process with another command and what the flags change.
    fn process(&self, record: &Record) -> anyhow::Result<Process> {
        if let Some(path) = &self.process {
            return Ok(Process::load(path)?);
        }
        let mut process = Spec::load(&record.bundle)?.process().as_oci().clone();
        process.set_args(Some(self.command.clone())).set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        process.env_mut().get_or_insert_default().extend(self.env.iter().cloned());
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').map_or((&**user, None), |(uid, gid)| (uid, Some(gid)));
            let number = |text: &str| {
                text.parse::<u32>()
                    .with_context(|| format!("--user {user:?} must be numbers: UID or UID:GID"))
            };
            process.user_mut().set_uid(number(uid)?);
            if let Some(gid) = gid {
                process.user_mut().set_gid(number(gid)?);
            }
        }
        if !self.additional_gids.is_empty() {
            let had = process.user().additional_gids().iter().flatten();
            let gids = had.chain(&self.additional_gids).copied().collect();
            process.user_mut().set_additional_gids(Some(gids));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        self.capabilities(&mut process)?;
        Ok(Process::check(process)?)
    }

    /// As runc: what is added is bounding, effective and permitted, and ambient where the container has inheritable ones.
    fn capabilities(&self, process: &mut oci::Process) -> anyhow::Result<()> {
        if self.cap.is_empty() {
            return Ok(());
        }
        let added = serde_json::from_value::<oci::Capabilities>(serde_json::to_value(&self.cap)?)
            .context("--cap names no capability: write it like CAP_NET_ADMIN")?;
        // The type's default is not empty.
        let mut sets = match process.capabilities() {
            Some(sets) => sets.clone(),
            None => serde_json::from_value(serde_json::json!({}))?,
        };
        let with = |set: &Option<oci::Capabilities>| -> Option<oci::Capabilities> {
            Some(set.iter().flatten().chain(&added).copied().collect())
        };
        sets.set_bounding(with(sets.bounding()));
        sets.set_effective(with(sets.effective()));
        sets.set_permitted(with(sets.permitted()));
        if sets.inheritable().is_some() {
            sets.set_ambient(with(sets.ambient()));
        }
        process.set_capabilities(Some(sets));
        Ok(())
    }
}
