//! The guest's kernel killed for want of memory: the host is to see it where callers look for it.
//!
//! Enters: what the guest tells, which is nothing to trust: a showing now and then, the rarer the more there were; names cut and
//! cleaned. Leaves:
//! a line for the log, and a count in the container's cgroup on the host ([`crate::host::cgroup`], `oom`).

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use msb_agent::protocol::Victim;
use nix::libc;

use crate::host::{
    cgroup::{Cgroup, OomError},
    wait,
};

/// Not more often than this: each costs a process, and lines in the log of the host's kernel.
const PAUSE: Duration = Duration::from_millis(500);
/// After so many the pause is twice as long, up to a minute or so, after which one is told at once again.
const FEW: u32 = 40;
const DOUBLED_MOST: u32 = 7;
/// Lines in the life of a container.
const LINES: u32 = 100;
/// Longest name that the kernel keeps of a process (`TASK_COMM_LEN`).
const NAME: usize = 15;
/// How long the kernel may take to kill what it was given.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was done already.
#[derive(Debug)]
pub(super) struct Showing {
    cgroup: Option<Cgroup>,
    last: Option<Instant>,
    shown: u32,
    lines: u32,
}

impl Showing {
    /// For the container in `cgroup`, if it is in one.
    pub(super) fn new(cgroup: Option<Cgroup>) -> Self {
        Self { cgroup, last: None, shown: 0, lines: 0 }
    }

    /// Makes known that the guest has killed; says through `tell` whom, and what could not be shown.
    pub(super) fn show(&mut self, kills: u64, victims: &[Victim], tell: &dyn Fn(&str)) {
        if self.last.is_some_and(|last| last.elapsed() < pause(self.shown)) {
            return;
        }
        self.last = Some(Instant::now());
        self.shown = self.shown.saturating_add(1);
        let mut say = |text: &str| {
            self.lines += 1;
            if self.lines <= LINES {
                tell(text);
            }
        };
        say(&line(kills, victims));
        if let Some(Err(error)) = self.cgroup.as_ref().map(on_host) {
            say(&super::chain(&error));
        }
    }
}

/// How long the next one waits, behind so many.
fn pause(shown: u32) -> Duration {
    PAUSE * (1 << (shown / FEW).min(DOUBLED_MOST))
}

/// Who was killed, in words. Names are the guest's: only harmless characters of them are told.
fn line(kills: u64, victims: &[Victim]) -> String {
    let name = |victim: &Victim| {
        let plain = |c: char| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '?' };
        format!("{} ({})", victim.name.chars().take(NAME).map(plain).collect::<String>(), victim.pid)
    };
    let named: Vec<String> = victims.iter().take(Victim::MAX).map(name).collect();
    let named = if named.is_empty() { "none of them named".into() } else { named.join(", ") };
    format!("out of memory: the guest's kernel killed {kills} of the container's processes: {named}")
}

/// Gives the host's kernel a process to kill.
fn on_host(cgroup: &Cgroup) -> Result<(), OomError> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("msb-runtime")
        .arg(VICTIM)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(OomError::Survived)?;
    let mut stdin = child.stdin.take();
    let shown = cgroup.show_oom(child.id(), || {
        // The end of its input is its sign.
        drop(stdin.take());
        match wait::within(&mut child, PATIENCE)? {
            Some(status) if status.signal() == Some(libc::SIGKILL) => Ok(()),
            Some(status) => Err(io::Error::other(format!("it ended with {status}"))),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    });
    // It has ended already, unless something failed.
    let _ = child.kill();
    let _ = child.wait();
    shown
}

/// The hidden verb of [`fall`].
pub const VICTIM: &str = "victim";

/// The process that is to be killed: waits for the end of its input, then takes memory, more than a cgroup without any
/// has, and far less than would matter in one that has.
pub fn fall() {
    // Whatever comes of it, what follows is the same.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    let mut taken = vec![0_u8; 4 << 20];
    for byte in taken.iter_mut().step_by(4096) {
        *byte = 1;
    }
    std::hint::black_box(&taken);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn names_of_the_guest_are_cleaned_and_cut() {
        let victim = |name: &str| Victim { pid: 7, name: name.into() };
        let told = line(2, &[victim("hog"), victim("a\"\n\u{1b}[31mvery long name")]);
        assert!(told.ends_with("hog (7), a???[31mvery?lo (7)"), "{told}");
        assert!(line(1, &[]).contains("none of them named"));
    }

    #[test]
    fn the_more_there_were_the_rarer_they_are_shown() {
        let pauses = [0, FEW - 1, FEW, 3 * FEW, u32::MAX].map(|shown| pause(shown).as_millis());
        assert_eq!(pauses, [500, 500, 1000, 4000, 64_000]);
    }

    #[test]
    fn a_flood_is_told_once() {
        let told = RefCell::new(Vec::new());
        let mut showing = Showing::new(None);
        for _ in 0..50 {
            showing.show(1, &[], &|text| told.borrow_mut().push(text.to_owned()));
        }
        assert_eq!(told.borrow().len(), 1);
    }
}
