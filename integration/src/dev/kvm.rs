//! Whether KVM on this machine is real, and why not: decides where containers run.

use std::process::Command;

use anyhow::{Context, Result};

use super::products::Build;

/// `Err` says why KVM here cannot run a guest. By `msb-runtime doctor`, which runs a few instructions.
pub fn is_real(build: &Build) -> Result<Result<(), String>> {
    let doctor = Command::new(&build.runtime).arg("doctor").envs(build.variables()).output();
    let doctor = doctor.with_context(|| format!("Cannot run {}", build.runtime.display()))?;
    let lines = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let line =
        lines.lines().find_map(|line| line.split_once(" kvm: ")).unwrap_or(("FAIL", "doctor says nothing"));
    if !line.0.starts_with("ok") {
        return Ok(Err(line.1.to_owned()));
    }
    Ok(Ok(()))
}
