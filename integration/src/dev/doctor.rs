//! `cargo dev doctor`: what `msb-runtime doctor` says of this machine, and what that means for `cargo dev`.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Project, kvm};

/// Prints the findings. Its exit code is 0 also where KVM is not real: the virtual host serves there.
pub fn run(project: &Project) -> Result<i32> {
    let build = project.build()?;
    let status = Command::new(&build.runtime).arg("doctor").envs(build.variables()).status();
    status.with_context(|| format!("Cannot run {}", build.runtime.display()))?;
    match kvm::is_real(&build)? {
        Ok(()) => println!("cargo dev run works directly: KVM is real here."),
        Err(reason) => println!("cargo dev run works in the virtual KVM host: {reason}."),
    }
    println!("Products are kept in {}.", project.cache.root().display());
    Ok(0)
}
