//! Promises that take more than one call in a row: several processes, memory, other file descriptors.

mod access;
mod directories;
mod files;
mod locks;
mod memory;
mod processes;

use std::io::Write;

use anyhow::{Context, Result, ensure};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

use crate::run::Runner;

/// Runs in an empty directory.
pub type Program = fn(&mut Runner) -> Result<()>;

/// All of them and their areas.
pub const ALL: &[(&str, Program)] = &[
    ("access by mode", access::by_mode),
    ("access lists", access::lists),
    ("file capabilities", access::capabilities),
    ("appending together", files::append),
    ("holes", files::holes),
    ("copies", files::copies),
    ("limits", files::limits),
    ("whole system", files::system),
    ("many open", files::many_open),
    ("names", directories::names),
    ("many names", directories::many),
    ("watches", directories::watches),
    ("locks", locks::locks),
    ("shared memory", memory::shared),
    ("programs", processes::programs),
    ("fifos and sockets", processes::between),
];

/// What a copy of this program is started for, by `processes`; false for all other words.
pub fn itself(word: &str) -> Result<bool> {
    match word {
        processes::WAITS => {
            print!("waits");
            std::io::stdout().flush()?;
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        }
        processes::WHO => print!("{} {}", geteuid(), getegid()),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Runs `work` in a child, which ends with it; true when that went well.
#[allow(unsafe_code, reason = "fork")]
fn child(work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: this program has one thread, so the child may do all that its parent may.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = match work() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("in a child: {error:#}");
                    1
                }
            };
            #[allow(clippy::exit, reason = "a child of fork must not come back")]
            std::process::exit(code)
        }
    }
}

fn ended(child: Pid) -> Result<()> {
    let status = waitpid(child, None)?;
    ensure!(matches!(status, WaitStatus::Exited(_, 0)), "a child ended with {status:?}");
    Ok(())
}
