//! `cargo dev host up`, `shell` and `down`: one host that stays until it is taken down.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::{Project, cache};
use crate::host::channel::{Channel, Sinks};
use crate::host::protocol::Start;
use crate::host::{Fixture, VirtualHost, qemu};

/// Starts the host that stays, with the current build in it.
pub fn up(project: &Project) -> Result<i32> {
    if let Some(pid) = running(project)? {
        bail!("The host is up already (process {pid}); `cargo dev host down` ends it");
    }
    let folder = folder(project);
    cache::remove(&folder)?;
    fs::create_dir_all(&folder).with_context(|| format!("Cannot make {}", folder.display()))?;
    let payload = project.shipped()?;
    let pid = VirtualHost::start_to_stay(&folder, &project.host(Fixture::Plain)?, &payload)?;
    fs::write(folder.join("pid"), pid.to_string()).context("Cannot note the host's process id")?;
    eprintln!("The host is up (process {pid}). Its console: {}", folder.join(qemu::files::CONSOLE).display());
    Ok(0)
}

/// Ends it.
pub fn down(project: &Project) -> Result<i32> {
    match running(project)? {
        Some(pid) => kill(Pid::from_raw(pid), Signal::SIGKILL).context("Cannot end the host")?,
        None => eprintln!("No host is up."),
    }
    cache::remove(&folder(project))?;
    Ok(0)
}

/// A shell in the host that is up, or in a clean one that lasts as long as the shell.
pub fn shell(project: &Project) -> Result<i32> {
    if running(project)?.is_some() {
        let path = folder(project).join(qemu::files::AGENT);
        let socket =
            UnixStream::connect(&path).with_context(|| format!("Cannot connect to {}", path.display()))?;
        let channel = Channel::open(socket, Duration::from_secs(30));
        return interact(&channel.context("Another shell may have the host's only connection")?);
    }
    interact(project.clean_host(Fixture::Plain, &[])?.channel())
}

fn folder(project: &Project) -> PathBuf {
    project.target.join("host-up")
}

/// The process of the host that is up, if it really is that host's.
fn running(project: &Project) -> Result<Option<i32>> {
    let Ok(text) = fs::read_to_string(folder(project).join("pid")) else { return Ok(None) };
    let pid: i32 = text.trim().parse().context("The host's process id is not a number")?;
    let folder_of = fs::read_link(format!("/proc/{pid}/cwd"));
    Ok(folder_of.is_ok_and(|cwd| cwd == folder(project)).then_some(pid))
}

/// Joins our terminal to a shell's.
fn interact(channel: &Channel) -> Result<i32> {
    let terminal = File::open("/dev/tty").context("A shell needs a terminal")?;
    let raw = Raw::enter(&terminal)?;
    let size = size();
    let start =
        Start { script: "exec bash -l".into(), terminal: Some(size), env: vec![("TERM".into(), term())] };
    let code = thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let mut sinks = Sinks { stdout: &mut io::stdout(), stderr: &mut io::stderr() };
            channel.run(&start, Some(Box::new(io::stdin())), &mut sinks, None)
        });
        // Looking now and then costs less than a signal's worth of unsafe code.
        let mut last = size;
        while !runner.is_finished() {
            thread::sleep(Duration::from_millis(200));
            let now = self::size();
            if now != last {
                channel.resize_all(now.0, now.1)?;
                last = now;
            }
        }
        runner.join().expect("the shell's thread does not panic")
    });
    drop(raw);
    Ok(code?)
}

fn term() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "linux".into())
}

/// Rows and columns of our terminal, by `stty`, which does what would be an unsafe ioctl here.
fn size() -> (u16, u16) {
    let terminal = File::open("/dev/tty").map_or(Stdio::null(), Stdio::from);
    let said = Command::new("stty")
        .arg("size")
        .stdin(terminal)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let mut numbers = said.split_whitespace().filter_map(|number| number.parse().ok());
    (numbers.next().unwrap_or(24), numbers.next().unwrap_or(80))
}

/// A terminal that passes every key on; as it was before when dropped.
struct Raw<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn enter(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal.as_fd()).context("Cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal.as_fd(), SetArg::TCSANOW, &raw)
            .context("Cannot change the terminal's settings")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSANOW, &self.before);
    }
}
