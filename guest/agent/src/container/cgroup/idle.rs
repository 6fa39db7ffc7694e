//! What a resting container once read goes out of the guest's memory.
//!
//! The guest's kernel keeps what was read from disks until it needs the memory for something else, and in a guest that may
//! be never; the host can't take it back, short of memory as it may be. So, after a while in which the container did next
//! to nothing, what was used only once is let go; free, it goes back to the host by itself (the balloon reports it).
//! Reading it again is cheap: the host has it in its own page cache, once for all machines of an image.
//!
//! It is looked for in the whole guest: what was read of the image is in no container's account (see the kernel's `EDITS`).

use std::time::Duration;

use super::files::{read_path, value, write_path};
use crate::container::place::CGROUPS;

/// Between two looks.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// A container that has used less of a processor since the last look has rested: one part in a hundred.
const RESTED: u64 = 100;
/// Less is not worth the work, in bytes.
const LEAST: u64 = 8 << 20;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub struct Idle {
    /// Microseconds of processor time since the guest began.
    used: u64,
}

impl Idle {
    /// Looks, [`INTERVAL`] after the last time, and lets go what is not needed.
    pub fn look(&mut self) {
        let read = |name: &str| read_path(&format!("{CGROUPS}/{name}"));
        let (Ok(cpu), Ok(memory)) = (read("cpu.stat"), read("memory.stat")) else { return };
        if let Some(bytes) = self.unneeded(&cpu, &memory) {
            // Fails when some of it can't be had, after it took the rest.
            let _ = write_path(&format!("{CGROUPS}/memory.reclaim"), &bytes.to_string());
        }
    }

    /// How many bytes, by the texts of `cpu.stat` and `memory.stat` (kernel, cgroup-v2.rst).
    fn unneeded(&mut self, cpu: &str, memory: &str) -> Option<u64> {
        let used = value(cpu, "usage_usec");
        let since = used.saturating_sub(std::mem::replace(&mut self.used, used));
        let rested = u128::from(since) * u128::from(RESTED) < INTERVAL.as_micros();
        let bytes = value(memory, "inactive_file");
        (rested && bytes >= LEAST).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_of_a_container_that_rests_and_only_much() {
        let mut idle = Idle::default();
        let cpu = |ms: u64| format!("usage_usec {}\nuser_usec 1\nsystem_usec 1\n", ms * 1000);
        let memory =
            |mib: u64| format!("anon 1\nfile 999999999\ninactive_file {}\nactive_file 2\n", mib << 20);
        assert_eq!(idle.unneeded(&cpu(5000), &memory(100)), None, "it has just begun");
        assert_eq!(idle.unneeded(&cpu(5299), &memory(100)), Some(100 << 20));
        assert_eq!(idle.unneeded(&cpu(5598), &memory(7)), None, "little");
        assert_eq!(idle.unneeded(&cpu(5897), &memory(8)), Some(8 << 20));
        assert_eq!(idle.unneeded(&cpu(6197), &memory(8)), None, "it works");
        assert_eq!(idle.unneeded("", ""), None);
    }
}
