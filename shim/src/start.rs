//! `start`: makes the server of a new task and prints where it listens, and nothing else.

use std::{
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::{address, flags::Flags, serve};

/// Starts it. containerd waits for this process's end and for both its streams, so that the server may hold neither.
pub fn start(flags: &Flags) -> anyhow::Result<()> {
    let socket = address::socket(flags);
    let mut server = Command::new("/proc/self/exe")
        // What `ps` shows.
        .arg0("containerd-shim-msb-v2")
        .args(flags.of_server())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("The shim's server can't be started")?;
    let mut word = String::new();
    let said = server.stdout.take().map(|mut stdout| stdout.read_to_string(&mut word)).transpose();
    said.context("The shim's server can't be heard")?;
    match word.strip_suffix(serve::READY) {
        Some("") => {}
        // It says why, and ends.
        _ => bail!(
            "{}",
            if word.is_empty() { "The shim's server ended before it was ready" } else { word.trim() }
        ),
    }
    let address = format!("unix://{}", socket.display());
    // Where containerd's own shim leaves it, for people.
    std::fs::write("address", &address).context("The shim's address can't be written into the bundle")?;
    print!("{address}");
    Ok(())
}
