//! `exec SANDBOX COMMAND…`

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use clap::Args;
use msb::sandbox::{Exec as Wanted, Key, keep};
use msb_runtime::process::terminal::{self, Raw};
use nix::sys::signal::Signal;

use crate::{Scope, env, run};

/// Run one more command in a sandbox that runs.
#[derive(Debug, Args)]
pub struct Exec {
    /// Pass this command's stdin on.
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Leave it running and return.
    #[arg(short, long)]
    detach: bool,
    /// An environment variable, or the name of one that is passed on.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A file with one such a line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Who runs it.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// For this program's own use: what was left running is this process's, and whoever left it waits for a line.
    #[arg(long, hide = true)]
    left: bool,
    /// Which sandbox.
    sandbox: String,
    /// What to run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    /// Ends as the command does.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = scope.key(&self.sandbox)?;
        let env = if self.left {
            serde_json::from_reader(io::stdin()).context("The variables were not passed on")?
        } else {
            env::read(&self.env_file, &self.env)?
        };
        if self.detach {
            return self.leave(&key, &env);
        }
        if self.tty && !self.left && !io::stdin().is_terminal() {
            anyhow::bail!("The input is no terminal: leave -t out");
        }
        let wanted =
            Wanted { args: self.command, env, workdir: self.workdir, user: self.user, terminal: self.tty };
        keep::hold_signals().context("Signals can't be forwarded")?;
        let size = terminal::size(io::stdin());
        let stdio = if self.left { nowhere()? } else { own()? };
        let running = match scope.sandboxes.begin(&key, &wanted, stdio, self.interactive && !self.left, size)
        {
            Ok(running) => Arc::new(running),
            Err(failure) => return run::told(failure),
        };
        if self.left {
            println!();
            nix::unistd::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
            nix::unistd::dup2_stderr(File::options().write(true).open("/dev/null")?)?;
        }
        let raw = if self.tty && !self.left { Raw::enter(io::stdin()).ok() } else { None };
        let (signals, target) = (keep::held_signals(), Arc::clone(&running));
        let forward = move || {
            while let Ok(received) = signals.wait() {
                match received {
                    Signal::SIGWINCH => {
                        if let Some(size) = terminal::size(io::stdin()) {
                            target.resize(size.rows, size.columns);
                        }
                    }
                    other => target.signal(other as i32),
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(forward).context("No thread for signals")?;
        let exit = running.wait();
        drop(raw);
        Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(u8::MAX)))
    }
}

impl Exec {
    /// The agent ends what nobody owns, so somebody stays: this program again, in a group of its own.
    fn leave(&self, key: &Key, env: &[String]) -> anyhow::Result<ExitCode> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["exec", "--left", "--namespace", key.namespace.as_str()]);
        command.args(self.user.iter().map(|user| format!("--user={user}")));
        if let Some(workdir) = &self.workdir {
            command.arg("--workdir").arg(workdir);
        }
        command.args(self.tty.then_some("--tty")).args(["--", key.name.as_str()]).args(&self.command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()?;
        // Everybody on this machine can read its arguments, and variables may be secrets.
        if let Some(stdin) = child.stdin.take() {
            // One that ended already says why itself.
            let _ = serde_json::to_writer(stdin, env);
        }
        let mut line = String::new();
        let stdout = child.stdout.take().context("The command's stdout is missing")?;
        if BufReader::new(stdout).read_line(&mut line)? > 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.unwrap_or(crate::FAILED)))
    }
}

fn own() -> io::Result<[OwnedFd; 3]> {
    Ok([
        io::stdin().as_fd().try_clone_to_owned()?,
        io::stdout().as_fd().try_clone_to_owned()?,
        io::stderr().as_fd().try_clone_to_owned()?,
    ])
}

fn nowhere() -> io::Result<[OwnedFd; 3]> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    Ok([null.try_clone()?.into(), null.try_clone()?.into(), null.into()])
}
