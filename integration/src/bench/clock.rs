//! Runs a command again and again and tells when its first output came and when it ended.
//!
//! This runs inside the virtual host, whose clock counts instructions: the same command takes the same time.

use std::{
    ffi::OsString,
    io::{self, Read},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// CLOCK_MONOTONIC just before the command was started, in nanoseconds.
    pub began_ns: u64,
    /// From the start to the first output that holds the marker, in nanoseconds; none if there was no such output.
    pub first_output_ns: Option<u64>,
    /// From the start to the end of the command, in nanoseconds.
    pub exit_ns: u64,
    /// User and system time of the command and all that it waited for, in nanoseconds.
    pub cpu_ns: u64,
    /// Its exit code, or 128 plus a signal's number.
    pub code: i32,
    /// The beginning of what it wrote, for a person who wonders.
    pub output: String,
}

/// Output kept of one run.
const KEPT: usize = 4096;

/// What is read at once, as much as a pipe holds: of a stream the writer is measured, not this reader.
const PIECE: usize = 64 << 10;

/// Runs `command` once. `marker` is what its first output of interest contains; empty: any output.
///
/// # Errors
/// When it can't be started or its pipe breaks.
pub fn run(command: &[OsString], marker: &str) -> io::Result<Run> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let cpu_before = children_cpu()?;
    let began_ns = monotonic()?;
    let began = Instant::now();
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut output = Vec::new();
    let mut first_output_ns = None;
    let mut piece = vec![0; PIECE];
    loop {
        let count = pipe.read(&mut piece)?;
        if count == 0 {
            break;
        }
        let now = nanoseconds(began.elapsed());
        output.extend_from_slice(&piece[..count.min(KEPT.saturating_sub(output.len()))]);
        if first_output_ns.is_none() && String::from_utf8_lossy(&output).contains(marker) {
            first_output_ns = Some(now);
        }
    }
    let status = child.wait()?;
    let exit_ns = nanoseconds(began.elapsed());
    Ok(Run {
        began_ns,
        first_output_ns,
        exit_ns,
        cpu_ns: nanoseconds(children_cpu()?.saturating_sub(cpu_before)),
        code: status.code().unwrap_or_else(|| {
            128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
        }),
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of the runtime's `--debug` moments.
///
/// # Errors
/// The kernel's.
pub fn monotonic() -> io::Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(nanoseconds(Duration::from(now)))
}

fn children_cpu() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: TimeVal| {
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    #[test]
    fn the_marker_and_the_end_are_two_moments() {
        let run = run(&shell("echo noise; echo here it is; sleep 0.05; exit 7"), "here").unwrap();
        assert_eq!((run.code, run.output.as_str()), (7, "noise\nhere it is\n"));
        assert!(run.first_output_ns.unwrap() + 40_000_000 < run.exit_ns);
    }

    #[test]
    fn no_marker_no_moment() {
        let run = run(&shell("echo noise"), "absent").unwrap();
        assert_eq!(run.first_output_ns, None);
    }
}
