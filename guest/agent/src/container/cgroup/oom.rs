//! Who was killed for want of memory: counted by the cgroup, named by the kernel's log.
//!
//! The count is the kernel's own and can't be forged. Names come from records of the kernel's facility, which no
//! process can write (`/dev/kmsg` gives what is written there another one); a name itself is the process's own choice.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use msb_agent::protocol::{Event, FromAgent, Victim};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::files::Files;
use super::statistics;
use crate::container::place::CGROUPS;
use crate::serve::Channel;

/// Between two events.
const INTERVAL: Duration = Duration::from_secs(1);
/// The kernel counts first and writes its line a moment later.
const PATIENCE: Duration = Duration::from_millis(200);
/// Records looked at in one go, and names kept: others may fill the log.
const RECORDS: usize = 1024;
/// Longest record (`PRINTKRB_RECORD_MAX`, and its dictionary).
const RECORD: usize = 8 << 10;

/// Tells the host of kills, each once.
#[derive(Debug)]
pub struct Watch {
    channel: Arc<Channel>,
    cgroup: Files,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    kills: u64,
    log: Option<KernelLog>,
}

impl Watch {
    /// From now on; what the log held before is another's.
    pub fn new(channel: &Arc<Channel>, cgroup: &Files) -> Self {
        let own = cgroup.0.strip_prefix(CGROUPS).unwrap_or_default().to_owned();
        let told = Told { kills: 0, log: KernelLog::open(own).ok() };
        Self { channel: Arc::clone(channel), cgroup: cgroup.clone(), told: Mutex::new(told) }
    }

    /// Tells what was killed since the last time, if anything was.
    pub fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = statistics::memory_events(&self.cgroup) else { return };
        let kills = events.oom_kill.saturating_sub(told.kills);
        if kills == 0 {
            return;
        }
        told.kills = events.oom_kill;
        let victims = told.log.as_mut().map(|log| log.victims(kills)).unwrap_or_default();
        self.channel.send(&FromAgent::Event(Event::OutOfMemory { kills, victims }));
    }

    /// Tells for ever, at most once in an [`INTERVAL`]; sleeps until the kernel says that something happened, or until
    /// it is time again for `chores`, every `period`. Comes back where the kernel does not count, or the cgroup is gone.
    pub fn run(&self, period: Duration, mut chores: impl FnMut()) {
        let Ok(events) = File::open(self.cgroup.path("memory.events")) else { return };
        let mut due = Instant::now() + period;
        loop {
            // Reading makes the next change show (kernfs: POLLPRI until it is read).
            if events.read_at(&mut [0; 512], 0).is_err() {
                return;
            }
            self.tell();
            thread::sleep(INTERVAL);
            let mut change = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let left = due.saturating_duration_since(Instant::now());
            // Interrupted: looking once more does no harm.
            let _ = poll(&mut change, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            if Instant::now() >= due {
                chores();
                due = Instant::now() + period;
            }
        }
    }
}

/// The kernel's log from a moment on (kernel, `Documentation/ABI/testing/dev-kmsg`).
#[derive(Debug)]
struct KernelLog {
    file: File,
    /// The cgroup that is looked after, from the root of all.
    own: String,
    /// Who is killed next, in another one.
    others: Option<u32>,
    /// Read and not told yet.
    victims: VecDeque<Victim>,
}

impl KernelLog {
    fn open(own: String) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, own, others: None, victims: VecDeque::new() })
    }

    /// The names of the next `kills`, as far as the log has them and an event takes them.
    fn victims(&mut self, kills: u64) -> Vec<Victim> {
        let wanted = usize::try_from(kills).unwrap_or(usize::MAX).min(RECORDS);
        let deadline = Instant::now() + PATIENCE;
        self.read();
        while self.victims.len() < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut more = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if left.is_zero() || poll(&mut more, timeout).is_ok_and(|ready| ready == 0) {
                break;
            }
            self.read();
        }
        let taken = self.victims.len().min(wanted);
        let mut victims: Vec<Victim> = self.victims.drain(..taken).collect();
        victims.truncate(Victim::MAX);
        victims
    }

    fn read(&mut self) {
        let mut record = vec![0; RECORD];
        for _ in 0..RECORDS {
            match self.file.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    if let Some((pid, cgroup)) = chosen(&text) {
                        self.others = (!is_in(cgroup, &self.own)).then_some(pid);
                    } else if let Some(victim) = victim(&text)
                        && Some(victim.pid) != self.others
                        && self.victims.len() < RECORDS
                    {
                        self.victims.push_back(victim);
                    }
                }
                // Overwritten before it was read: the next read goes on behind the gap.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => return,
            }
        }
    }
}

/// The text of a record of the kernel's facility.
fn kernels(record: &str) -> Option<&str> {
    let (prefix, text) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    // The lower three bits are the level; facility 0 is the kernel (LOG_KERN).
    if priority >> 3 == 0 { text.lines().next() } else { None }
}

/// Reads `oom-kill:…,task_memcg=CGROUP,task=NAME,pid=PID,uid=UID` (mm/oom_kill.c), which comes before the next: who is chosen,
/// and where that process is. The kernel leaves it out when it kills often.
fn chosen(record: &str) -> Option<(u32, &str)> {
    let rest = kernels(record)?.strip_prefix("oom-kill:")?.split_once(",task_memcg=")?.1;
    let (cgroup, rest) = rest.split_once(",task=")?;
    // A name may hold these very words: the last ones end it.
    let pid = rest.rsplit_once(",pid=")?.1.split(',').next()?;
    Some((pid.parse().ok()?, cgroup))
}

fn is_in(cgroup: &str, own: &str) -> bool {
    cgroup.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads `PRIORITY,SEQUENCE,TIME,FLAGS;… Killed process PID (NAME) total-vm:…` (mm/oom_kill.c) of the kernel's facility.
fn victim(record: &str) -> Option<Victim> {
    let rest = kernels(record)?.split_once("ut of memory: Killed process ")?.1;
    let (pid, rest) = rest.split_once(" (")?;
    // A name may hold these very words: the last ones end it.
    let name = rest.get(..rest.rfind(") total-vm:")?)?;
    Some(Victim { pid: pid.parse().ok()?, name: name.chars().take(64).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let tail = "total-vm:70000kB, anon-rss:65000kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:180kB oom_score_adj:0\n";
        let group = format!("3,411,5000,-;Memory cgroup out of memory: Killed process 77 (dd) {tail}");
        assert_eq!(victim(&group), Some(Victim { pid: 77, name: "dd".into() }));
        let whole =
            format!("3,412,5001,-;Out of memory: Killed process 8 (a) total-vm:) {tail} SUBSYSTEM=x\n");
        assert_eq!(victim(&whole), Some(Victim { pid: 8, name: "a) total-vm:".into() }));
    }

    #[test]
    fn who_is_chosen_and_where() {
        let record = "6,410,4999,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=container-3,mems_allowed=0,\
                      oom_memcg=/container-3,task_memcg=/container-3/a,task=x,pid=1,pid=77,uid=0\n";
        assert_eq!(chosen(record), Some((77, "/container-3/a")));
        assert_eq!(chosen(&record.replacen("6,", "14,", 1)), None);
        assert!(is_in("/container-3/a", "/container-3") && is_in("/container", "/container"));
        assert!(!is_in("/container-3", "/container"));
    }

    #[test]
    fn what_a_process_writes_is_not_the_kernels() {
        // LOG_USER is facility 1.
        let forged = "11,9,9,-;Memory cgroup out of memory: Killed process 1 (init) total-vm:1kB\n";
        assert_eq!(victim(forged), None);
        for other in
            ["", "3,1,1,-;something else\n", "3,1,1,-;Out of memory: Killed process x (y) total-vm:", ";"]
        {
            assert_eq!(victim(other), None, "{other:?}");
        }
    }
}
