//! `attach SANDBOX`

use std::{
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use clap::Args;
use msb::sandbox::{Key, Sandboxes, Sender, Stream, Told, keep};
use msb_runtime::process::terminal::{self, Raw};
use nix::sys::signal::Signal;

use crate::Scope;

/// Docker's keys to leave it: Control and P, then Control and Q.
const LEAVE: [u8; 2] = [0x10, 0x11];

/// Look at a sandbox that runs in the background, and write to it; on a terminal, ctrl-p ctrl-q leaves it running.
#[derive(Debug, Args)]
pub struct Attach {
    /// Look only.
    #[arg(long)]
    no_stdin: bool,
    /// Which sandbox.
    sandbox: String,
}

impl Attach {
    /// Ends as the sandbox does, or when it is left.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let key = scope.key(&self.sandbox)?;
        let (_, stored) = scope.sandboxes.find(&key)?;
        let with_terminal = stored.request.terminal && !self.no_stdin;
        if with_terminal && !io::stdin().is_terminal() {
            anyhow::bail!("The sandbox has a terminal and the input is none: give --no-stdin to look only");
        }
        keep::hold_signals().context("Signals can't be forwarded")?;
        let mut attached = scope.sandboxes.attach(&key)?;
        let raw = if with_terminal { Raw::enter(io::stdin()).ok() } else { None };
        let left = Arc::new(AtomicBool::new(false));
        if with_terminal {
            size(&attached.sender()?, true);
        }
        if !self.no_stdin {
            let (sender, left) = (attached.sender()?, Arc::clone(&left));
            let read = move || input(&sender, with_terminal, &left);
            thread::Builder::new().name("input".into()).spawn(read).context("No thread for the input")?;
        }
        let (sender, sandboxes, target) = (attached.sender()?, scope.sandboxes.clone(), key.clone());
        let forward = move || signals(&sender, &sandboxes, &target);
        thread::Builder::new().name("signals".into()).spawn(forward).context("No thread for signals")?;
        let code = loop {
            match attached.receive() {
                Ok(Some(Told::Output(Stream::Stdout, bytes))) => show(io::stdout(), &bytes)?,
                Ok(Some(Told::Output(Stream::Stderr, bytes))) => show(io::stderr(), &bytes)?,
                Ok(Some(Told::End(code))) => break Some(code),
                Ok(None) | Err(_) => break None,
            }
        };
        drop(raw);
        if left.load(Ordering::Relaxed) {
            return Ok(ExitCode::SUCCESS);
        }
        let code = match code {
            Some(code) => Some(code),
            None => without_a_word(scope, &key)?,
        };
        Ok(ExitCode::from(code.unwrap_or(u8::MAX)))
    }
}

/// The keeper has told no end: who does not read for a while is cut off, and who is killed says nothing.
fn without_a_word(scope: &Scope, key: &Key) -> anyhow::Result<Option<u8>> {
    let name = &key.name;
    let running = scope.sandboxes.info(key).is_ok_and(|info| info.running());
    if running && scope.sandboxes.attach(key).is_ok() {
        anyhow::bail!(
            "This has read nothing for a while and was cut off, so that {name} can go on: attach again; `msb logs \
             {name}` has what it wrote meanwhile"
        );
    }
    if running {
        eprintln!(
            "msb: The keeper of {name} was killed: what it writes is seen no more, until `msb restart {name}`"
        );
    } else {
        eprintln!("msb: The last that {name} wrote may be missing here: see `msb logs {name}`");
    }
    Ok(scope.sandboxes.wait(key)?)
}

fn show(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// A program that draws does so again when the size changes: with `anew` it does for a moment.
fn size(sender: &Sender, anew: bool) {
    let Some(size) = terminal::size(io::stdin()) else { return };
    // That it has ended is learnt elsewhere.
    if anew {
        let mut other = size;
        other.rows = other.rows.saturating_add(1);
        let _ = sender.resize(other);
    }
    let _ = sender.resize(size);
}

/// The end of the input is not the sandbox's: the next one who attaches has another.
fn input(sender: &Sender, with_keys: bool, left: &AtomicBool) {
    let (mut piece, mut keys) = (vec![0; 4096], Keys::default());
    while let Ok(count @ 1..) = io::stdin().lock().read(&mut piece) {
        let (bytes, leave) =
            if with_keys { keys.take(&piece[..count]) } else { (piece[..count].to_vec(), false) };
        if !bytes.is_empty() && sender.input(&bytes).is_err() {
            return;
        }
        if leave {
            left.store(true, Ordering::Relaxed);
            sender.close();
            return;
        }
    }
}

fn signals(sender: &Sender, sandboxes: &Sandboxes, key: &Key) {
    let held = keep::held_signals();
    while let Ok(received) = held.wait() {
        match received {
            Signal::SIGWINCH => size(sender, false),
            // It may have ended meanwhile.
            other => drop(sandboxes.kill(key, other as i32)),
        }
    }
}

/// Looks for the keys that leave; the first of them waits for what follows it.
#[derive(Debug, Default)]
struct Keys {
    first: bool,
}

impl Keys {
    /// What is the sandbox's of some input, and whether it is left behind that.
    fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            match (std::mem::take(&mut self.first), *byte) {
                (true, byte) if byte == LEAVE[1] => return (passed, true),
                (before, byte) => {
                    passed.extend(before.then_some(LEAVE[0]));
                    if byte == LEAVE[0] {
                        self.first = true;
                    } else {
                        passed.push(byte);
                    }
                }
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(b"\x11c"), (vec![], true));
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"\x10x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.take(b"\x11"), (b"\x11".to_vec(), false));
        assert_eq!(keys.take(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }
}
