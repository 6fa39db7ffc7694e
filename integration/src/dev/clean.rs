//! `cargo dev clean`: takes the host down and removes every product. Cargo's own output stays.

use anyhow::Result;

use super::{Project, cache, shell};

/// Removes them.
pub fn run(project: &Project) -> Result<i32> {
    shell::down(project)?;
    cache::remove(&project.target.join("failures"))?;
    cache::remove(project.cache.root())?;
    Ok(0)
}
