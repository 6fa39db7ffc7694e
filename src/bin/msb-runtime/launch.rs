//! What `create` and `run` have in common: from their flags to a container that waits for its start.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use msb_runtime::{
    bundle::Spec,
    host::fds,
    process::attach::DRAIN,
    state::Id,
    verbs::{
        Announce, Context,
        create::{self, Created, Request},
    },
};

use crate::console::{self, Console};

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

/// Makes it; the terminal's other side too, where this command serves it.
pub fn launch(
    options: &Options,
    detached: bool,
    context: &Context,
) -> anyhow::Result<(Created, Option<OwnedFd>)> {
    // Before anything of our own is opened: what the caller leaked to us must not live as long as the VMM.
    fds::forget_inherited()
        .context("Inherited descriptors can't be closed: a kernel from 5.11 on is needed")?;
    no_sockets()?;
    let id: Id = options.id.parse()?;
    let bundle = absolute(options.bundle.as_deref())?;
    let spec = Spec::load(&bundle)?;
    let Console { stdio, stdin, master } =
        console::prepare(spec.process().terminal(), detached, options.console_socket.as_deref())?;
    let announce =
        Announce { pid_file: options.pid_file.clone(), pidfd_socket: options.pidfd_socket.clone() };
    let drain = detached.then_some(DRAIN);
    let request = Request { id, bundle, spec, image: None, stdio, stdin, drain, announce };
    let created = create::create(request, context)?;
    Ok((created, master))
}

/// The bundle as later commands, with other working directories, will find it.
fn absolute(bundle: Option<&Path>) -> anyhow::Result<PathBuf> {
    let bundle = bundle.unwrap_or_else(|| Path::new("."));
    fs::canonicalize(bundle).with_context(|| {
        format!("The bundle {} can't be opened: give its directory with --bundle", bundle.display())
    })
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
