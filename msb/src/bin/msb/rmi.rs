//! `rmi IMAGE…` and `prune`

use std::process::ExitCode;

use clap::Args;
use msb::image::{Digest, Images};

use crate::{Scope, format};

/// Remove images' names, and what no name stands for any more.
#[derive(Debug, Args)]
pub struct Rmi {
    /// Which ones.
    #[arg(required = true)]
    images: Vec<String>,
}

/// Remove what no image and no sandbox needs.
#[derive(Debug, Args)]
pub struct Prune {}

impl Rmi {
    /// Prints each name that went.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        let code = format::each(&self.images, |image| {
            images.remove(image)?;
            Ok(())
        })?;
        prune(scope)?;
        Ok(code)
    }
}

impl Prune {
    /// Prints what that freed.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let freed = prune(scope)?;
        println!("{freed} freed");
        Ok(ExitCode::SUCCESS)
    }
}

/// Sandboxes keep the layers of images whose names are gone.
fn prune(scope: &Scope) -> anyhow::Result<String> {
    let used: Vec<Digest> =
        scope.sandboxes.digests()?.iter().filter_map(|digest| digest.parse().ok()).collect();
    let freed = Images::open(scope.sandboxes.home())?.prune(&used)?;
    Ok(format::size(freed.bytes))
}
