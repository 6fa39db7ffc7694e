//! Guests, and hosts, that stand still by the emulator's fault.
//!
//! QEMU (10.0), which plays the processor with SVM, keeps the number of the interrupt that KVM injects into a nested guest
//! until that guest's next exit or exception. If it leaves its loop before, for a reason of its own (a table of its that grows;
//! with instructions counted, the end of every count), it delivers the interrupt once more, even where the guest has switched
//! interrupts off. A handler is then interrupted by itself and waits for its own lock for ever. It happens to guests of
//! whichever VMM, by the wall's clock once in some thousand.
//!
//! Seldom too, the host's own timer is silent: all of it sleeps until something else wakes it, such as a word of ours minutes
//! later. Its kernel notices then that a timer's wakeup did not come (Linux: kernel/rcu/tree_stall.h), or that its processor had
//! nothing to do for minutes, in which nothing woke it (kernel/watchdog.c, of the idle task): what runs on it can do neither.
//!
//! Enters: a host. Leaves: the guest that stands still so, by what KVM counts of it: it runs, since the host's own timer makes
//! it exit, and neither asks for anything nor takes an interrupt, its own timer's included; or the host. Must never know what
//! runs in it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::VirtualHost;

/// What KVM counts of each machine, twice: its exits, and those of them that are its own doing, with its interrupts.
const LOOK: &str = "
dmesg | grep -oE -m 1 'timer wakeup did.*t happen for [0-9]* jiffies|soft lockup - CPU#[0-9]* stuck for [0-9]*s! \\[swapper/[0-9]*:0\\]' | sed 's/^/host /'
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
cd /sys/kernel/debug/kvm || exit 0
look() {
    for machine in *-*; do
        [ -e $machine/exits ] || continue
        echo $machine $(cd $machine && cat exits irq_injections halt_exits io_exits mmio_exits hypercalls)
    done
}
look; sleep 3; look
";

/// So many exits in three seconds are a guest that runs: the host's timer has some hundreds.
const RUNS: u64 = 30;

impl VirtualHost {
    /// The machine that stands still, by the process and descriptor that KVM names it by, or the host itself, if it did. Some
    /// seconds.
    pub fn stands_still(&self) -> Option<String> {
        let seen = self.sh(LOOK).timeout(Duration::from_secs(60)).run().ok()?;
        still(&seen.out()).map(str::to_owned)
    }
}

fn still(seen: &str) -> Option<&str> {
    if let Some(host) = seen.lines().find(|line| line.starts_with("host ")) {
        return Some(host);
    }
    let mut first = BTreeMap::new();
    for line in seen.lines() {
        let mut words = line.split_whitespace();
        let machine = words.next()?;
        let counts: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let (exits, own) = counts.split_first()?;
        let Some((before, own_before)) = first.insert(machine, (*exits, own.to_vec())) else { continue };
        if exits.saturating_sub(before) >= RUNS && own_before == own {
            return Some(machine);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn one_that_runs_and_does_nothing_stands_still() {
        let idle = "10-4 100 7 8 9 10 0\n12-4 500 1 1 1 1 0\n10-4 101 7 8 9 10 0\n12-4 900 2 1 1 1 0\n";
        assert_eq!(still(idle), None, "one sleeps, one takes its timer's interrupts");
        let spins = "10-4 100 7 8 9 10 0\n12-4 500 1 1 1 1 0\n10-4 101 7 8 9 10 0\n12-4 900 1 1 1 1 0\n";
        assert_eq!(still(spins), Some("12-4"));
        assert_eq!(still("10-4 100 7 8 9 10 0\n12-4 900 1 1 1 1 0\n"), None, "each was there once");
        assert_eq!(still(""), None);
        let silent = "host timer wakeup didn't happen for 64466 jiffies";
        assert_eq!(still(&format!("{silent}\n{idle}")), Some(silent));
    }

    #[test]
    fn a_host_that_slept_is_told_from_one_that_worked_too_long() {
        let look = LOOK.lines().find(|line| line.starts_with("dmesg")).unwrap().replacen("dmesg", "cat", 1);
        let found = |line: &str| {
            let mut shell = Command::new("sh")
                .args(["-c", &look])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            shell.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
            String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
        };
        let slept = "soft lockup - CPU#0 stuck for 276s! [swapper/0:0]";
        assert_eq!(found(&format!("[  434.091014] watchdog: BUG: {slept}\n")), format!("host {slept}\n"));
        assert_eq!(
            found("[  434.091014] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [msb-vmm:1123]\n"),
            ""
        );
        let silent = "timer wakeup didn't happen for 64466 jiffies";
        assert_eq!(found(&format!("rcu: {silent}! g9 f0x0\n")), format!("host {silent}\n"));
    }
}
