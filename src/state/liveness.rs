//! Whether a process that was recorded still lives, and is still the same.

use std::{fs, io};

use serde::{Deserialize, Serialize};

/// A process, told apart from a later one with the same pid by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Field 22 (`starttime`) of `/proc/PID/stat`, in clock ticks since the boot.
    pub start_time: u64,
}

impl Process {
    /// The process that has this pid now; `None` if there is none or it has ended.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::look(pid).ok()?
    }

    /// It is there, it is the same, and it has not ended. Where this process can't look, for want of descriptors or memory, it
    /// is taken for alive: what belongs to one that is gone is given away.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::look(self.pid).map_or(true, |found| found == Some(*self))
    }

    fn look(pid: i32) -> io::Result<Option<Self>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => Ok(state_and_start(&stat)
                // Z: a zombie, X: being removed.
                .filter(|(state, _)| !matches!(state, 'Z' | 'X' | 'x'))
                .map(|(_, start_time)| Self { pid, start_time })),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// No such process: from the beginning, or since the file was opened.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// Fields 3 and 22. Field 2, the name, is in brackets and may hold anything, brackets and blanks included.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 3 is gone; 22 is the nineteenth of the rest.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_lives() {
        let own = Process::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start_time: own.start_time + 1, ..own }.is_alive(), "a later process of that pid");
    }

    #[test]
    fn a_zombie_does_not() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id().cast_signed()).unwrap();
        child.kill().unwrap();
        // Killed and not yet waited for: a zombie as soon as the signal was handled.
        while process.is_alive() {
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
    }

    #[test]
    fn who_can_not_be_looked_at_is_taken_for_alive() {
        let other = |number: i32| io::Error::from_raw_os_error(number);
        assert!(is_gone(&other(nix::libc::ENOENT)) && is_gone(&other(nix::libc::ESRCH)));
        assert!(!is_gone(&other(nix::libc::EMFILE)) && !is_gone(&other(nix::libc::ENOMEM)));
        assert!(!Process { pid: i32::MAX, start_time: 1 }.is_alive());
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 10";
        assert_eq!(state_and_start(stat), Some(('S', 4242)));
    }

    proptest! {
        #[test]
        fn any_text_is_decided(text in ".{0,80}") {
            let _ = state_and_start(&text);
        }
    }
}
