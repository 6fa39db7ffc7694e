//! What a sandbox uses of its host: its machine as a whole, the guest's work and its own.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use msb_runtime::{state::Process, verbs::Lent};
use nix::time::{ClockId, clock_gettime};

use super::{Failure, Key, Sandboxes, Usage};

/// `USER_HZ`: clock ticks of /proc in a second, on every architecture that has KVM.
const TICKS: u64 = 100;
/// The kernel's, on every host that has 4 KiB pages; statm(5) counts in them.
const PAGE: u64 = 4096;
/// Files of a writable layer that are counted; the rest is not.
const FILES: usize = 100_000;
/// Machines whose last reading is kept.
const READINGS: usize = 1024;
/// Two readings that are closer say nothing.
const CLOSE: Duration = Duration::from_millis(50);

/// Processor time at some moment, by pid.
#[derive(Debug, Default)]
pub(super) struct Readings(Mutex<HashMap<u32, Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    used: Duration,
    percent: f64,
}

impl Readings {
    /// The percentage of a processor since the last reading, or of its whole life before the first.
    fn percent(&self, pid: u32, used: Duration, life: Duration) -> f64 {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (spent, time) = match all.get(&pid) {
            Some(last) if now - last.at < CLOSE && last.used <= used => return last.percent,
            Some(last) if last.used <= used => (used - last.used, now - last.at),
            _ => (used, life.max(CLOSE)),
        };
        let percent = 100.0 * spent.as_secs_f64() / time.as_secs_f64();
        if all.len() >= READINGS {
            all.clear();
        }
        all.insert(pid, Reading { at: now, used, percent });
        percent
    }
}

impl Sandboxes {
    /// What it uses at this moment.
    ///
    /// # Errors
    /// [`Failure::NoSandbox`], [`Failure::NoNamespace`], or that it can't be read.
    pub fn usage(&self, key: &Key) -> Result<Usage, Failure> {
        let (place, stored) = self.find(key)?;
        let running = self.entry(&stored).and_then(|entry| {
            let record = entry.record().ok()?;
            let disk = Lent::load(&entry).ok().flatten().map(|lent| lent.disks.join("scratch.ext4"));
            record.vmm.is_alive().then_some((record.vmm, u32::try_from(record.vmm.pid).ok()?, disk))
        });
        let Some((vmm, pid, disk)) = running else {
            return Ok(Usage { disk: Some(layer(&place.upper())), ..Usage::default() });
        };
        let processes = processes(pid);
        let used = processes.iter().filter_map(|pid| processor_time(*pid)).reduce(|one, other| one + other);
        let written = disk.and_then(|path| fs::metadata(path).ok()).map_or(0, |disk| disk.blocks() * 512);
        Ok(Usage {
            cpu: used.map(|used| self.readings().percent(pid, used, life(vmm).unwrap_or_default())),
            memory: processes.iter().filter_map(|pid| memory(*pid)).reduce(|one, other| one + other),
            disk: Some(layer(&place.upper()) + written),
        })
    }
}

/// How long a process has lived, whoever has set the host's clock meanwhile; none: it is of another host's time.
pub(super) fn life(process: Process) -> Option<Duration> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Duration::from(now).checked_sub(Duration::from_millis(process.start_time.saturating_mul(1000 / TICKS)))
}

/// The process of a sandbox, and its child that runs the machine: the same program.
fn processes(pid: u32) -> Vec<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
    [pid].into_iter().chain(children.filter(|child| program(*child) == program(pid))).collect()
}

/// Fields 14 and 15 of proc_pid_stat(5). Field 2, the name, is in brackets and may hold anything.
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((next()? + next()?).saturating_mul(1000 / TICKS)))
}

/// Field 2 of proc_pid_statm(5): what of it is in the host's memory.
fn memory(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * PAGE)
}

/// What a directory takes on the disk. What vanishes meanwhile is not counted.
pub(super) fn layer(upper: &Path) -> u64 {
    fn add(directory: &Path, left: &mut usize) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(directory)? {
            if *left == 0 {
                break;
            }
            *left -= 1;
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                bytes += add(&entry.path(), left).unwrap_or(0);
            }
        }
        Ok(bytes)
    }
    add(upper, &mut FILES.clone()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap() > 1 << 20);
        assert_eq!(processes(pid), [pid]);
        processor_time(pid).unwrap();
        assert_eq!(processor_time(u32::MAX), None);
    }

    #[test]
    fn a_process_is_as_old_as_its_kernel_says() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id().cast_signed()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let old = life(process).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // A tick either way.
        assert!(old >= Duration::from_millis(40) && old < Duration::from_secs(30), "{old:?}");
        assert_eq!(life(Process { start_time: u64::MAX, ..process }), None);
    }

    #[test]
    fn a_percentage_is_of_the_time_between_two_readings() {
        let readings = Readings::default();
        let second = Duration::from_secs(1);
        assert!((readings.percent(1, second, 2 * second) - 50.0).abs() < 0.01);
        // Too close to say anything new.
        assert!((readings.percent(1, 2 * second, 3 * second) - 50.0).abs() < 0.01);
        // Another process with the same number.
        assert!((readings.percent(1, Duration::ZERO, second)).abs() < 0.01);
    }

    #[test]
    fn a_layer_is_what_its_files_take() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), [1; 8192]).unwrap();
        assert!(layer(dir.path()) >= 8192);
        assert_eq!(layer(&dir.path().join("none")), 0);
    }
}
