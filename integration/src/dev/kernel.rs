//! `cargo dev kernel`: the guest kernel, and where it is.

use anyhow::Result;

use super::Project;

/// Builds it if need be, and prints its path.
pub fn run(project: &Project) -> Result<i32> {
    println!("{}", project.guest_kernel()?.display());
    Ok(0)
}
