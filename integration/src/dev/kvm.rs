//! Whether KVM on this machine is real, and why not: decides where containers run.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::products::Build;

/// `Err` says why KVM here cannot run a guest. By `msb-runtime doctor`, and by what the processor shows.
pub fn is_real(build: &Build) -> Result<Result<(), String>> {
    let doctor = Command::new(&build.runtime).arg("doctor").envs(build.variables()).output();
    let doctor = doctor.with_context(|| format!("Cannot run {}", build.runtime.display()))?;
    let lines = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let line =
        lines.lines().find_map(|line| line.split_once(" kvm: ")).unwrap_or(("FAIL", "doctor says nothing"));
    if !line.0.starts_with("ok") {
        return Ok(Err(line.1.to_owned()));
    }
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if cfg!(target_arch = "x86_64") && !flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return Ok(Err("the processor shows neither VT-x nor SVM, so /dev/kvm can only emulate".to_owned()));
    }
    Ok(Ok(()))
}
