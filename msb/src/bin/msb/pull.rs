//! `pull IMAGE…`

use std::process::ExitCode;

use clap::Args;
use msb::image::{Images, Registries, ordinary};

use crate::{Scope, format, progress::Bars};

/// Ask registries for images.
#[derive(Debug, Args)]
pub struct Pull {
    /// Which ones.
    #[arg(required = true)]
    images: Vec<String>,
}

impl Pull {
    /// Prints the name of each.
    pub fn run(self, scope: &Scope) -> anyhow::Result<ExitCode> {
        let images = Images::open(scope.sandboxes.home())?;
        format::each(&self.images, |image| {
            images.pull(ordinary(image), &Registries::of_environment(), &Bars::new())?;
            Ok(())
        })
    }
}
