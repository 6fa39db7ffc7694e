//! A child that this command stays for: its signals, its terminal, its exit code.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
    thread,
};

use anyhow::Context;
use msb_runtime::{
    process::{
        session::FOREGROUND,
        terminal::{self, Raw},
    },
    sandbox::child::Released,
};
use nix::{
    sys::signal::{self, SigSet, Signal},
    unistd::Pid,
};

/// Stays until the child ends, and ends as it did.
pub fn stay(child: Released, master: Option<OwnedFd>) -> anyhow::Result<ExitCode> {
    let signals: SigSet = FOREGROUND.into_iter().collect();
    signals.thread_block().context("Signals can't be forwarded")?;
    let pid = Pid::from_raw(i32::try_from(child.pid())?);
    let sized = master.as_ref().map(OwnedFd::try_clone).transpose()?;
    let forwarding = thread::Builder::new().spawn(move || forward(&signals, pid, sized.as_ref()));
    let raw = master.as_ref().and_then(|_| Raw::enter(io::stdin()).ok());
    let output = forwarding.and_then(|_| master.map(serve).transpose());
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            // Whoever asked would have a process that nobody can reach.
            let _ = signal::kill(pid, Signal::SIGKILL);
            let _ = child.wait();
            return Err(error).context("Threads can't be started for the process's signals and terminal");
        }
    };
    let code = child.wait().context("The process can't be waited for")?;
    if let Some(output) = output {
        // The slave's last descriptor went with the child: the copy comes to its end.
        let _ = output.join();
    }
    drop(raw);
    Ok(ExitCode::from(code))
}

/// Passes signals on; a new size of the user's terminal is passed on as one of the container's.
fn forward(signals: &SigSet, pid: Pid, master: Option<&OwnedFd>) {
    while let Ok(received) = signals.wait() {
        match (received, master) {
            (Signal::SIGWINCH, Some(master)) => {
                if let Some(size) = terminal::size(io::stdin()) {
                    terminal::resize(master, size);
                }
            }
            // The child may have ended meanwhile, which the main thread learns.
            _ => drop(signal::kill(pid, received)),
        }
    }
}

/// Copies both ways between the terminal and this command's stdio; the way out ends with the terminal.
fn serve(master: OwnedFd) -> io::Result<thread::JoinHandle<()>> {
    let mut input = File::from(master.try_clone()?);
    let mut output = File::from(master);
    thread::Builder::new().spawn(move || {
        // Ends with this command; the child may be gone before.
        let _ = copy(&mut io::stdin().lock(), &mut input);
    })?;
    thread::Builder::new().spawn(move || {
        // EIO is how a terminal says that its other side is closed.
        let _ = copy(&mut output, &mut io::stdout().lock());
    })
}

/// Each piece is written at once: a person waits for it.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&piece[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
