//! `cargo dev install`: everything that is shipped, at the places where it looks for its other parts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{Project, sbom};

/// What all of it is made of.
const MATERIALS: &str = "usr/share/doc/msb/materials.cdx.json";

/// Where to.
#[derive(Args, Debug)]
pub struct Install {
    /// A directory that is to be `/` there
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
}

/// Builds what is not built, puts each file into its place and prints that.
pub fn run(project: &Project, install: &Install) -> Result<i32> {
    for item in project.shipped()? {
        let target = install.root.join(item.target.trim_start_matches('/'));
        let parent = target.parent().context("A file of ours has no directory")?;
        fs::create_dir_all(parent).with_context(|| format!("Cannot make {}", parent.display()))?;
        // Whoever runs the old one keeps it.
        let temporary = target.with_extension("new");
        fs::copy(&item.source, &temporary)
            .and_then(|_| fs::set_permissions(&temporary, fs::Permissions::from_mode(item.mode)))
            .and_then(|()| fs::rename(&temporary, &target))
            .with_context(|| format!("Cannot write {}", target.display()))?;
        println!("{}", target.display());
    }
    let target = install.root.join(MATERIALS);
    let parent = target.parent().context("A file of ours has no directory")?;
    fs::create_dir_all(parent).with_context(|| format!("Cannot make {}", parent.display()))?;
    fs::write(&target, sbom::document(project, &project.guest_kernel()?)?)
        .with_context(|| format!("Cannot write {}", target.display()))?;
    println!("{}", target.display());
    Ok(0)
}
