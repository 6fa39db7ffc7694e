//! The benchmarks' stop watch inside the virtual host.
//!
//! `host-measure run COUNT MARKER BEFORE COMMAND…` prints a JSON array of runs, each made after the shell commands BEFORE,
//! which are not measured; `host-measure hello COUNT COMMAND…` prints one of nanoseconds, `host-measure memory PID MIB` one
//! object.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use integration::bench::{clock, hello, memory};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match measure(&arguments) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("host-measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &[OsString]) -> Result<String> {
    let words: Vec<&str> = arguments.iter().map_while(|word| word.to_str()).collect();
    match words.as_slice() {
        ["run", count, marker, before, _, ..] => {
            let count: usize = count.parse().context("COUNT is no number")?;
            let mut runs = Vec::new();
            for _ in 0..count {
                if !before.is_empty() && !Command::new("sh").args(["-ec", before]).status()?.success() {
                    bail!("{before}: it failed");
                }
                settle()?;
                runs.push(clock::run(&arguments[4..], marker)?);
            }
            Ok(serde_json::to_string(&runs)?)
        }
        ["hello", count, _, ..] => {
            let count: usize = count.parse().context("COUNT is no number")?;
            let mut times = Vec::new();
            for _ in 0..count {
                settle()?;
                times.push(hello::run(&arguments[2..])?);
            }
            Ok(serde_json::to_string(&times)?)
        }
        ["memory", pid, mib] => {
            let (pid, mib) = (pid.parse().context("PID")?, mib.parse().context("MIB")?);
            Ok(serde_json::to_string(&memory::of(pid, mib)?)?)
        }
        _ => bail!(
            "usage: host-measure run COUNT MARKER BEFORE COMMAND… | hello COUNT COMMAND… | memory PID MIB"
        ),
    }
}

/// Work that the run before left to the kernel (freed memory, removed cgroups) must not count for the next.
fn settle() -> Result<()> {
    nix::unistd::sync();
    let slept = Command::new("sleep").arg("2").status().context("sleep")?;
    if !slept.success() {
        bail!("The host can't settle");
    }
    Ok(())
}
