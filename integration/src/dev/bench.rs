//! `cargo dev bench`: start-up, memory and size in the virtual host, counted in instructions.

use anyhow::Result;

use super::Project;
use crate::host::Fixture;

/// Makes all that the benchmarks need and hands over to them.
pub fn run(project: &Project) -> Result<i32> {
    let _host = project.clean_host(Fixture::Icount, &[])?;
    Ok(0)
}
