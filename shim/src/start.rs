//! `start`: makes the server of a new task, unless its group has one, and prints where it listens, and nothing else.

use std::{
    env,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::{address, flags::Flags, group, options, serve};

/// The highest version of the task service that containerd speaks, in the environment. Those before 1.7 do not tell.
const MOST: &str = "MAX_SHIM_VERSION";

/// How containerd is told of `address`: up to version 2 by nothing else, from 3 on with what is served there.
fn answer(address: &str, most: Option<u32>) -> String {
    match most {
        Some(3..) => serde_json::json!({"version": 3, "address": address, "protocol": "ttrpc"}).to_string(),
        _ => address.to_owned(),
    }
}

/// Starts it. containerd waits for this process's end and for both its streams, so that the server may hold neither.
pub fn start(flags: &Flags) -> anyhow::Result<()> {
    let bundle = env::current_dir().context("The bundle is not there")?;
    let flags = &group::of(flags, &bundle)?;
    let address = format!("unix://{}", address::socket(flags).display());
    if !group::is_served(flags) {
        let settings = match group::has_sandbox(&bundle) {
            true => options::of_sandbox(io::stdin().lock())?,
            false => None,
        };
        serve_apart(flags, settings.as_deref())?;
    }
    // Where containerd's own shim leaves it, for people.
    std::fs::write("address", &address).context("The shim's address can't be written into the bundle")?;
    print!("{}", answer(&address, env::var(MOST).ok().and_then(|most| most.parse().ok())));
    Ok(())
}

/// Makes the server, and returns when it listens.
fn serve_apart(flags: &Flags, settings: Option<&Path>) -> anyhow::Result<()> {
    let mut server = Command::new("/proc/self/exe")
        .envs(settings.map(|settings| (serve::SETTINGS, settings)))
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_containerd_is_answered_in_its_form() {
        for old in [None, Some(2)] {
            assert_eq!(answer("unix:///s", old), "unix:///s");
        }
        let told: serde_json::Value = serde_json::from_str(&answer("unix:///s", Some(3))).unwrap();
        assert_eq!(told, serde_json::json!({"version": 3, "address": "unix:///s", "protocol": "ttrpc"}));
    }
}
