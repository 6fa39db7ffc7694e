//! `cargo dev kernel`: the guest kernel, and where it is.

use anyhow::Result;

use super::Project;
use crate::kernel::Arch;

/// Builds the one of machines with that processor if need be, and prints its path.
pub fn run(project: &Project, arch: Arch) -> Result<i32> {
    println!("{}", project.kernel_for(arch)?.display());
    Ok(0)
}
