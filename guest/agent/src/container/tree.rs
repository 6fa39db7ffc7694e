//! A process that was begun in a container, and all that came of it: those of its session, of sessions that its children
//! began, and children of any of them.
//!
//! Processes fork while they are looked at: whoever sends a signal that ends them looks again until nobody is left. Who has
//! forked twice and left its session in between has left its family as well, as a daemon does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

/// `/proc/PID/stat` in bytes; the kernel writes less than a kilobyte.
const STAT: u64 = 4096;

/// Whom it has found so far.
#[derive(Debug)]
pub struct Tree {
    /// Its own, and those of children that began one: known by their numbers also when their leaders are gone.
    sessions: BTreeSet<u32>,
    /// Also those that have ended since: their children may not.
    members: BTreeSet<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
    ended: bool,
}

impl Tree {
    /// Of the process `pid`, which leads a session.
    pub fn of(pid: u32) -> Self {
        Self { sessions: BTreeSet::from([pid]), members: BTreeSet::from([pid]) }
    }

    /// Those of `pids` that belong to it and have not ended.
    pub fn living(&mut self, pids: &[u32]) -> Vec<u32> {
        let processes: Vec<Process> = pids.iter().filter_map(|pid| Process::read(*pid)).collect();
        self.pick(&processes)
    }

    fn pick(&mut self, processes: &[Process]) -> Vec<u32> {
        // A child may be listed before its parent.
        loop {
            let before = self.members.len();
            for process in processes {
                if self.sessions.contains(&process.session) || self.members.contains(&process.parent) {
                    self.members.insert(process.pid);
                    if process.session == process.pid {
                        self.sessions.insert(process.pid);
                    }
                }
            }
            if self.members.len() == before {
                break;
            }
        }
        let living = processes.iter().filter(|process| !process.ended && self.members.contains(&process.pid));
        living.map(|process| process.pid).collect()
    }
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(format!("/proc/{pid}/stat")).ok()?.take(STAT).read_to_end(&mut bytes).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&bytes))
    }

    /// Fields 3, 4 and 6 of proc_pid_stat(5); the name before them is in parentheses and may hold more of them.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        Some(Self { pid, parent, session, ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, session: u32) -> Process {
        Process { pid, parent, session, ended: false }
    }

    #[test]
    fn its_session_and_what_left_it_are_found_and_nobody_else() {
        let mut tree = Tree::of(10);
        let all = [
            process(1, 0, 1),
            process(13, 12, 12),
            process(10, 1, 10),
            process(11, 10, 10),
            // It began a session of its own.
            process(12, 11, 12),
            process(20, 1, 20),
            // Its parent is gone, its session is not.
            process(14, 1, 10),
        ];
        assert_eq!(tree.pick(&all), [13, 10, 11, 12, 14]);
        // And the session of one that has gone.
        assert_eq!(tree.pick(&[process(30, 1, 12), process(20, 1, 20)]), [30]);
        assert_eq!(tree.pick(&[Process { ended: true, ..process(11, 1, 10) }]), Vec::<u32>::new());
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) R (b c) S 4 7 5 0 -1";
        assert_eq!(Process::parse(7, stat), Some(process(7, 4, 5)));
        assert_eq!(Process::parse(7, "7 (x) Z 1 2 3"), Some(Process { ended: true, ..process(7, 1, 3) }));
        for broken in ["", "7 (x", "7 (x) S 1 2", ")("] {
            assert_eq!(Process::parse(7, broken), None, "{broken:?}");
        }
        assert!(Process::read(std::process::id()).is_some_and(|process| !process.ended));
    }
}
