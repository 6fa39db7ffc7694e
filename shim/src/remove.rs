//! `delete`: removes what a shim that is gone has left. containerd calls it after every task, also where nothing is left.

use std::{
    env,
    io::{self, Write},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use containerd_shim_protos::{api::DeleteResponse, protobuf::Message};
use msb_runtime::{
    state::{Id, Store},
    verbs::{Context, delete},
};
use nix::unistd::setsid;

use crate::{
    address,
    events::timestamp,
    flags::Flags,
    group,
    log::Log,
    mounts,
    pod::{self, Files},
    task::Exit,
};

/// Removes it and prints containerd's `DeleteResponse`.
pub fn remove(flags: &Flags) -> anyhow::Result<()> {
    let bundle = match &flags.bundle {
        Some(bundle) => bundle.clone(),
        None => env::current_dir().context("The bundle is not there")?,
    };
    let id: Id = flags.id.parse()?;
    let log = Log::open(&bundle, flags.debug);
    let store = Store::new(address::state(flags));
    let entry = store.look(&id);
    let pid = entry.as_ref().map_or(0, |entry| entry.record().map_or(0, |record| record.vmm.pid));
    // It may have ended by itself, with nobody there to see it. Otherwise it ends now, by SIGKILL.
    let exit = Exit::kept(entry.ok().as_ref());
    let context = Context { store, systemd_cgroup: false, settings: None, tell: Box::new(log) };
    let deleted = delete::delete(&id, true, &context);
    if Files::of(&bundle).is_some() {
        // It has no part in what containerd waits for, and for no more than five seconds.
        let members = Command::new("/proc/self/exe")
            .args(flags.of_server())
            .arg("-bundle")
            .arg(&bundle)
            .arg("members")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        members.context("What the pod's containers have left can't be removed")?;
    }
    mounts::unmount_all(&bundle.join(mounts::ROOT))?;
    // A shim that serves others still removes its socket itself.
    if !group::is_served(flags) {
        address::forget(&address::socket(flags));
    }
    let response = DeleteResponse {
        pid: pid.cast_unsigned(),
        exit_status: exit.code,
        exited_at: Some(timestamp(exit.at)).into(),
        ..DeleteResponse::default()
    };
    io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(deleted?)
}

/// Removes what the other containers of a pod have left, whose machine is gone.
pub fn members(flags: &Flags) -> anyhow::Result<()> {
    // Whoever is ended with the process that began it.
    let _ = setsid();
    let bundle = flags.bundle.as_deref().context("The sandbox's bundle is not given")?;
    let (id, log): (Id, _) = (flags.id.parse()?, Log::open(bundle, flags.debug));
    let store = Store::new(address::state(flags));
    let context = Context { store, systemd_cgroup: false, settings: None, tell: Box::new(log) };
    Ok(pod::remove_members(&id, &context)?)
}
