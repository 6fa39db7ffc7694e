//! Files that run, and files between processes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{child, ended};
use crate::run::Runner;

/// Makes this program say `waits`, and wait for the end of its input: what runs must be a file of its own.
pub const WAITS: &str = "--wait";

pub fn programs(runner: &mut Runner) -> Result<()> {
    fs::copy("/proc/self/exe", "copy")?;
    fs::set_permissions("copy", fs::Permissions::from_mode(0o755))?;
    let mut running =
        Command::new("./copy").arg(WAITS).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = [0; 5];
    running.stdout.as_mut().context("it says something")?.read_exact(&mut said)?;
    runner.is("a file runs", &said, b"waits");
    runner.fails("what runs is not written to", File::options().write(true).open("copy"), Errno::ETXTBSY);
    runner.fails("nor cut", nix::unistd::truncate("copy", 0), Errno::ETXTBSY);
    fs::rename("copy", "moved")?;
    fs::write("copy", "another")?;
    fs::remove_file("moved")?;
    drop(running.stdin.take());
    runner.is("and is removed, and goes on", running.wait()?.code(), Some(0));

    fs::write("data", "no program")?;
    runner.fails("what may not be executed", Command::new("./data").spawn(), Errno::EACCES);
    fs::set_permissions("data", fs::Permissions::from_mode(0o755))?;
    runner.fails("what is no program", Command::new("./data").spawn(), Errno::ENOEXEC);
    fs::write("writer", "x")?;
    fs::set_permissions("writer", fs::Permissions::from_mode(0o755))?;
    let writer = File::options().append(true).open("writer")?;
    runner.fails("what is written to does not run", Command::new("./writer").spawn(), Errno::ETXTBSY);
    drop(writer);
    fs::copy("/proc/self/exe", "who")?;
    std::os::unix::fs::chown("who", Some(1234), Some(1235))?;
    fs::set_permissions("who", fs::Permissions::from_mode(0o6755))?;
    let said = Command::new("./who").arg(WHO).output()?;
    runner.is(
        "set-user-ID and set-group-ID",
        String::from_utf8_lossy(&said.stdout).into_owned(),
        "1234 1235".to_owned(),
    );
    runner.is("without a signal", said.status.signal(), None);
    fs::write("script", format!("#!{}/who {WHO}\n", std::env::current_dir()?.display()))?;
    fs::set_permissions("script", fs::Permissions::from_mode(0o755))?;
    let said = Command::new("./script").output()?;
    runner.is(
        "a script's interpreter",
        String::from_utf8_lossy(&said.stdout).into_owned(),
        "1234 1235".to_owned(),
    );
    Ok(())
}

/// Makes this program say its effective user and group.
pub const WHO: &str = "--who";

pub fn between(runner: &mut Runner) -> Result<()> {
    mkfifo("p", Mode::from_bits_truncate(0o600))?;
    let writer = child(|| Ok(File::options().write(true).open("p")?.write_all(b"through")?))?;
    runner.is("through a fifo", fs::read_to_string("p")?, "through".to_owned());
    ended(writer)?;
    let listener = UnixListener::bind("s")?;
    runner.fails("a socket's name is taken", UnixListener::bind("s"), Errno::EADDRINUSE);
    let mut client = UnixStream::connect("s")?;
    listener.accept()?.0.write_all(b"hi")?;
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    runner.is("through a socket", said, "hi".to_owned());
    drop(listener);
    runner.fails("nobody listens any more", UnixStream::connect("s"), Errno::ECONNREFUSED);
    fs::remove_file("s")?;
    runner.fails("and it has no name", UnixStream::connect("s"), Errno::ENOENT);
    Ok(())
}
