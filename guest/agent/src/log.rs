//! Failures that nobody can be told: a few lines on the kernel's console.
//!
//! In: one line. Bounded for the whole life of the machine, because a container may be able to cause them.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines that are ever written.
const LINES: u32 = 64;
/// Longest line in bytes; `/dev/kmsg` takes less than 1 KiB (`PRINTKRB_RECORD_MAX`).
const LENGTH: usize = 400;

static WRITTEN: AtomicU32 = AtomicU32::new(0);

/// Writes one line, unless there were too many.
pub fn failure(step: &str, reason: &dyn std::fmt::Display) {
    if WRITTEN
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < LINES).then_some(count + 1))
        .is_err()
    {
        return;
    }
    let mut line = format!("<3>msb-agent: {step}: {reason}").replace('\n', " ").into_bytes();
    line.truncate(LENGTH);
    line.push(b'\n');
    // There is nowhere left to tell an error of this.
    let _ = match OpenOptions::new().write(true).open("/dev/kmsg") {
        Ok(mut kmsg) => kmsg.write_all(&line),
        // Before devtmpfs is mounted there is only what the kernel opened for pid 1.
        Err(_) => std::io::stderr().write_all(&line[3..]),
    };
}
